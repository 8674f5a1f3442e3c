//! A set of port numbers: one bit each, 8 KiB whatever its ranges are.

use std::fmt;

use crate::spec::PortRange;

const WORDS: usize = 1024;
/// The even numbers of a word.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// Port numbers. Empty sets own no memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PortSet {
    words: Option<Box<[u64; WORDS]>>,
}

impl PortSet {
    /// The numbers of `ranges`.
    pub fn from_ranges(ranges: impl IntoIterator<Item = PortRange>) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert_range(range);
        }
        set
    }

    /// Adds all numbers of `range`.
    pub fn insert_range(&mut self, range: PortRange) {
        for port in range.start..=range.end {
            self.insert(port);
        }
    }

    /// Takes all numbers of `range` out.
    pub fn remove_range(&mut self, range: PortRange) {
        for port in range.start..=range.end {
            self.remove(port);
        }
    }

    /// Adds a number.
    pub fn insert(&mut self, port: u16) {
        let (word, bit) = place(port);
        self.words.get_or_insert_with(|| Box::new([0; WORDS]))[word] |= bit;
    }

    /// Takes a number out.
    pub fn remove(&mut self, port: u16) {
        let (word, bit) = place(port);
        if let Some(words) = &mut self.words {
            words[word] &= !bit;
        }
    }

    /// Whether `port` is in it.
    pub fn contains(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.words.as_ref().is_some_and(|words| words[word] & bit != 0)
    }

    /// How many numbers it has.
    pub fn len(&self) -> u32 {
        self.words.as_ref().map_or(0, |words| words.iter().map(|word| word.count_ones()).sum())
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.words.as_ref().is_none_or(|words| words.iter().all(|&word| word == 0))
    }

    /// Whether some number is in both.
    pub fn intersects(&self, other: &Self) -> bool {
        match (&self.words, &other.words) {
            (Some(a), Some(b)) => a.iter().zip(b.iter()).any(|(a, b)| a & b != 0),
            (None, _) | (_, None) => false,
        }
    }

    /// The numbers that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let words = self.words.as_ref().zip(other.words.as_ref());
        let words = words.map(|(a, b)| Box::new(std::array::from_fn(|index| a[index] & b[index])));
        Self { words }
    }

    /// The lowest number that is here and not in `taken`.
    pub fn first_without(&self, taken: &Self) -> Option<u16> {
        self.first(taken, |free| free)
    }

    /// The lowest even number that is here with the odd one above it, neither of them in `taken`.
    pub fn first_pair_without(&self, taken: &Self) -> Option<u16> {
        self.first(taken, |free| free & (free >> 1) & EVEN)
    }

    /// Its numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..WORDS).flat_map(|index| {
            let mut word = self.word(index);
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(number(index, bit))
            })
        })
    }

    /// Its numbers as ranges, ascending, with a gap between any two.
    pub fn ranges(&self) -> Vec<PortRange> {
        let mut ranges: Vec<PortRange> = Vec::new();
        for port in self.iter() {
            match ranges.last_mut() {
                Some(last) if last.end.checked_add(1) == Some(port) => last.end = port,
                Some(_) | None => ranges.push(PortRange { start: port, end: port }),
            }
        }
        ranges
    }

    fn first(&self, taken: &Self, candidates: impl Fn(u64) -> u64) -> Option<u16> {
        (0..WORDS).find_map(|index| {
            let found = candidates(self.word(index) & !taken.word(index));
            (found != 0).then(|| number(index, found.trailing_zeros()))
        })
    }

    fn word(&self, index: usize) -> u64 {
        self.words.as_ref().map_or(0, |words| words[index])
    }
}

/// As sysctl writes and reads them: `20000-20010,30666`.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, PortRange { start, end }) in self.ranges().into_iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{start}")?;
            if end > start {
                write!(f, "-{end}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges().iter().map(|range| (range.start, range.end))).finish()
    }
}

fn place(port: u16) -> (usize, u64) {
    (usize::from(port) / 64, 1 << (port % 64))
}

fn number(word: usize, bit: u32) -> u16 {
    u16::try_from(word * 64 + bit as usize).expect("1024 words of 64 bits hold 65536 numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u16, u16)]) -> PortSet {
        PortSet::from_ranges(ranges.iter().map(|&(start, end)| PortRange { start, end }))
    }

    #[test]
    fn numbers_at_both_ends_are_kept() {
        let all = set(&[(0, 65535)]);
        assert_eq!(all.len(), 65536);
        assert_eq!(all.ranges(), [PortRange { start: 0, end: 65535 }]);
        assert!(set(&[(65535, 65535)]).contains(65535));
    }

    #[test]
    fn a_pair_is_even_and_odd_across_the_edge_of_a_word() {
        let mut taken = PortSet::default();
        assert_eq!(set(&[(63, 66)]).first_pair_without(&taken), Some(64));
        taken.insert(65);
        assert_eq!(set(&[(63, 66)]).first_pair_without(&taken), None);
        assert_eq!(set(&[(63, 66)]).first_without(&taken), Some(63));
    }

    #[test]
    fn ranges_join_what_touches() {
        assert_eq!(
            set(&[(10, 12), (13, 14), (20, 20)]).ranges(),
            [PortRange { start: 10, end: 14 }, PortRange { start: 20, end: 20 }]
        );
    }

    #[test]
    fn an_empty_set_meets_nothing() {
        assert!(!PortSet::default().intersects(&set(&[(1, 9)])));
        assert!(set(&[(9, 12)]).intersects(&set(&[(1, 9)])));
        assert!(!set(&[(10, 12)]).intersects(&set(&[(1, 9)])));
    }

    #[test]
    fn what_is_in_both_is_said_as_sysctl_says_it() {
        let (pools, handed_out) = (set(&[(20_000, 20_010), (32_700, 32_770)]), set(&[(32_768, 60_999)]));
        assert_eq!(pools.intersection(&handed_out).to_string(), "32768-32770");
        assert!(pools.intersection(&PortSet::default()).is_empty());
        assert_eq!(set(&[(7, 7), (20_000, 20_001), (9, 9)]).to_string(), "7,9,20000-20001");
        assert_eq!(PortSet::default().to_string(), "");
    }
}
