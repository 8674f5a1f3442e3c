//! A set of port numbers: a bit each, in pages that are there where a number is. A leader keeps some for each node, and a pool has its
//! numbers in a few places: a thousand of them take 1 KiB.

use std::fmt;

use crate::spec::PortRange;

const PAGES: usize = 64;
const WORDS: usize = 16;
/// The even numbers of a word.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// 1024 numbers, a bit each.
type Page = [u64; WORDS];

const EMPTY: &Page = &[0; WORDS];

/// Port numbers. Empty sets own no memory.
#[derive(Clone, Default)]
pub struct PortSet {
    pages: Option<Box<[Option<Box<Page>>; PAGES]>>,
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
        let (page, word, bit) = place(port);
        let pages = self.pages.get_or_insert_with(|| Box::new([const { None }; PAGES]));
        pages[page].get_or_insert_with(|| Box::new(*EMPTY))[word] |= bit;
    }

    /// Takes a number out.
    pub fn remove(&mut self, port: u16) {
        let (page, word, bit) = place(port);
        if let Some(page) = self.pages.as_mut().and_then(|pages| pages[page].as_mut()) {
            page[word] &= !bit;
        }
    }

    /// Whether `port` is in it.
    pub fn contains(&self, port: u16) -> bool {
        let (page, word, bit) = place(port);
        self.page(page)[word] & bit != 0
    }

    /// How many numbers it has.
    pub fn len(&self) -> u32 {
        self.pages().map(|(_, page)| page.iter().map(|word| word.count_ones()).sum::<u32>()).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.pages().all(|(_, page)| page == EMPTY)
    }

    /// Whether some number is in both.
    pub fn intersects(&self, other: &Self) -> bool {
        self.pages().any(|(index, page)| page.iter().zip(other.page(index)).any(|(a, b)| a & b != 0))
    }

    /// The numbers that are in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut pages = [const { None }; PAGES];
        for (index, page) in self.pages() {
            let both = std::array::from_fn(|word| page[word] & other.page(index)[word]);
            pages[index] = (both != *EMPTY).then(|| Box::new(both));
        }
        Self { pages: pages.iter().any(Option::is_some).then(|| Box::new(pages)) }
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
        let words = self.pages().flat_map(|(page, words)| words.iter().enumerate().map(move |it| (page, it)));
        words.flat_map(|(page, (index, &word))| {
            let mut word = word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(number(page, index, bit))
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
        self.pages().find_map(|(page, words)| {
            let mut words = words.iter().zip(taken.page(page)).enumerate();
            words.find_map(|(index, (here, taken))| {
                let found = candidates(here & !taken);
                (found != 0).then(|| number(page, index, found.trailing_zeros()))
            })
        })
    }

    /// The pages that are there, ascending.
    fn pages(&self) -> impl Iterator<Item = (usize, &Page)> + '_ {
        let all = self.pages.iter().flat_map(|pages| pages.iter().enumerate());
        all.filter_map(|(index, page)| Some((index, &**page.as_ref()?)))
    }

    fn page(&self, index: usize) -> &Page {
        self.pages.as_ref().and_then(|pages| pages[index].as_deref()).unwrap_or(EMPTY)
    }
}

/// Of their numbers: a page that became empty is as good as none.
impl PartialEq for PortSet {
    fn eq(&self, other: &Self) -> bool {
        (0..PAGES).all(|index| self.page(index) == other.page(index))
    }
}

impl Eq for PortSet {}

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

/// Page, word in it, and bit in that.
fn place(port: u16) -> (usize, usize, u64) {
    let word = usize::from(port) / 64;
    (word / WORDS, word % WORDS, 1 << (port % 64))
}

fn number(page: usize, word: usize, bit: u32) -> u16 {
    let port = (page * WORDS + word) * 64 + bit as usize;
    u16::try_from(port).expect("64 pages of 16 words of 64 bits hold 65536 numbers")
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
    fn a_set_that_became_smaller_is_what_it_would_be_without() {
        let mut large = set(&[(10, 12), (40_000, 40_100)]);
        assert_ne!(large, set(&[(10, 12)]));
        large.remove_range(PortRange { start: 40_000, end: 40_100 });
        assert_eq!(large, set(&[(10, 12)]));
        large.remove_range(PortRange { start: 10, end: 12 });
        assert_eq!(large, PortSet::default());
        assert_eq!((large.is_empty(), large.len()), (true, 0));
    }

    #[test]
    fn a_number_is_found_across_the_edge_of_a_page() {
        let taken = set(&[(1000, 1024)]);
        assert_eq!(set(&[(1000, 1100)]).first_without(&taken), Some(1025));
        assert_eq!(set(&[(1000, 1100)]).first_pair_without(&taken), Some(1026));
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
