//! Names like the one that was asked for.

use super::facts::Other;

/// Streams that may have been meant, the likest first.
pub(super) fn names<'a>(asked: &str, others: &'a [Other]) -> Vec<&'a Other> {
    let wanted = asked.rsplit('/').next().unwrap_or(asked);
    let mut found: Vec<(usize, &Other)> = others
        .iter()
        .filter_map(|other| {
            let whole = distance(asked, &other.name.to_string()).min(distance(asked, &other.path));
            // The right name in another namespace, too.
            let name = distance(wanted, &other.name.name);
            let likeness = whole.min(name + 1);
            (likeness <= 1 + wanted.chars().count() / 3).then_some((likeness, other))
        })
        .collect();
    found.sort_by(|(one, a), (other, b)| (one, &a.name).cmp(&(other, &b.name)));
    found.into_iter().map(|(_, other)| other).take(SHOWN_MAX).collect()
}

/// More than a few are no help.
const SHOWN_MAX: usize = 5;

/// Letters to be changed, added, taken away or swapped with the next, to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut last_but_one: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(last_but_one[j - 1] + 1);
            }
            row.push(least);
        }
        last_but_one = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_one_step() {
        for (one, other, steps) in
            [("cam", "cam", 0), ("cam", "cma", 1), ("cam", "cam-1", 2), ("", "cam", 3), ("door", "yard", 4)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (steps, steps), "{one} {other}");
        }
    }
}
