//! Names like the one that was asked for.

use strsim::osa_distance;

use super::facts::Other;

/// Streams that may have been meant, the likest first.
pub(super) fn names<'a>(asked: &str, others: &'a [Other]) -> Vec<&'a Other> {
    let wanted = asked.rsplit('/').next().unwrap_or(asked);
    let mut found: Vec<(usize, &Other)> = others
        .iter()
        .filter_map(|other| {
            let whole = osa_distance(asked, &other.name.to_string()).min(osa_distance(asked, &other.path));
            // The right name in another namespace, too.
            let name = osa_distance(wanted, &other.name.name);
            let likeness = whole.min(name + 1);
            (likeness <= 1 + wanted.chars().count() / 3).then_some((likeness, other))
        })
        .collect();
    found.sort_by(|(one, a), (other, b)| (one, &a.name).cmp(&(other, &b.name)));
    found.into_iter().map(|(_, other)| other).take(SHOWN_MAX).collect()
}

/// More than a few are no help.
const SHOWN_MAX: usize = 5;
