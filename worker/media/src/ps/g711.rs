//! G.711: telling A-law from µ-law where no map says it.

/// The two laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    A,
    Mu,
}

/// Samples below this tell nothing: 20 ms.
const SAMPLES_MIN: usize = 160;

/// The law under which the samples are the quieter and smoother sound: read by the wrong law, a silence becomes a constant, and
/// a curve folds over at each change of segment. GB/T 28181 names A-law, so it wins where there is little to choose.
pub(super) fn guess(samples: &[u8]) -> Law {
    if samples.len() < SAMPLES_MIN {
        return Law::A;
    }
    if unrest(samples, mu_law) * 4 < unrest(samples, a_law) * 3 { Law::Mu } else { Law::A }
}

/// Samples and the steps between them, summed. The steps weigh more, for they tell also where it is loud.
fn unrest(samples: &[u8], law: fn(u8) -> i32) -> u64 {
    let mut before = 0;
    samples
        .iter()
        .map(|&sample| {
            let value = law(sample);
            let step = value.abs_diff(std::mem::replace(&mut before, value));
            u64::from(value.unsigned_abs()) + 4 * u64::from(step)
        })
        .sum()
}

/// ITU-T G.711 table 1, at 16 bits.
fn a_law(code: u8) -> i32 {
    let code = code ^ 0x55;
    let (segment, step) = (u32::from(code >> 4 & 7), i32::from(code & 0x0f));
    let size = match segment {
        0 => step << 4 | 8,
        _ => (step << 4 | 0x108) << (segment - 1),
    };
    if code & 0x80 != 0 { size } else { -size }
}

/// ITU-T G.711 table 2, at 16 bits.
fn mu_law(code: u8) -> i32 {
    let code = !code;
    let (segment, step) = (u32::from(code >> 4 & 7), i32::from(code & 0x0f));
    let size = ((step << 3 | 0x84) << segment) - 0x84;
    if code & 0x80 != 0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::{Law, a_law, guess, mu_law};

    /// A tone with an amplitude, in the code of a law: the nearest of its 256 values.
    fn tone(law: fn(u8) -> i32, amplitude: f64, samples: usize) -> Vec<u8> {
        (0..samples)
            .map(|n| {
                let want = ((n as f64 * 0.17).sin() + 0.4 * (n as f64 * 0.61).sin()) * amplitude;
                (0..=255u8).min_by_key(|&code| (f64::from(law(code)) - want).abs() as u64).expect("256 codes")
            })
            .collect()
    }

    #[test]
    fn a_sound_is_told_by_its_smoothness() {
        for amplitude in [100.0, 500.0, 3000.0, 12000.0] {
            assert_eq!(guess(&tone(a_law, amplitude, 320)), Law::A, "A-law at {amplitude}");
            assert_eq!(guess(&tone(mu_law, amplitude, 320)), Law::Mu, "µ-law at {amplitude}");
        }
    }

    #[test]
    fn silence_is_told_by_its_value() {
        assert_eq!(guess(&[0xd5; 320]), Law::A);
        assert_eq!(guess(&[0x55; 320]), Law::A);
        assert_eq!(guess(&[0xff; 320]), Law::Mu);
        assert_eq!(guess(&[0x7f; 320]), Law::Mu);
    }

    #[test]
    fn a_few_samples_are_the_law_of_the_standard() {
        assert_eq!(guess(&[]), Law::A);
        assert_eq!(guess(&[0xff; 20]), Law::A);
    }

    #[test]
    fn the_laws_are_those_of_the_tables() {
        assert_eq!([0xd5, 0x55, 0xaa, 0x2a].map(a_law), [8, -8, 32256, -32256]);
        assert_eq!([0xff, 0x7f, 0x80, 0x00].map(mu_law), [0, 0, 32124, -32124]);
    }
}
