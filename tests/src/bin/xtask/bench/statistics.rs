//! Medians and quartiles.

/// Of a set of measurements of one thing.
pub(crate) struct Quartiles {
    /// Half of them are below.
    pub(crate) median: f64,
    /// A quarter of them are below.
    pub(crate) lower: f64,
    /// Three quarters of them are below.
    pub(crate) upper: f64,
    /// The least.
    pub(crate) best: f64,
}

impl Quartiles {
    /// Of at least one value, by linear interpolation.
    pub(crate) fn of(values: &[f64]) -> Quartiles {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Quartiles { median: at(0.5), lower: at(0.25), upper: at(0.75), best: sorted[0] }
    }

    /// `median (lower–upper)`.
    pub(crate) fn show(&self, digits: usize) -> String {
        let Quartiles { median, lower, upper, .. } = self;
        format!("{median:.digits$} ({lower:.digits$}–{upper:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::Quartiles;

    #[test]
    fn quartiles_interpolate() {
        let of = Quartiles::of(&[4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!((of.best, of.lower, of.median, of.upper), (1.0, 2.0, 3.0, 4.0));
        assert_eq!(Quartiles::of(&[1.0, 2.0]).show(2), "1.50 (1.25–1.75)");
    }
}
