//! Durations as the API writes them: `100ms`, `10s`, `1m`, `1h30m`.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::words;

/// A length of time, written as numbers with the units `ms`, `s`, `m` and `h`; resolution is a millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(std::time::Duration);

/// Text that is not a [`Duration`]; its message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", words::DURATION)]
pub struct DurationError;

/// What a duration looks like, for CEL. The digits are limited so that no sum of units can overflow.
pub(super) const PATTERN: &str = "^([0-9]{1,9}(ms|s|m|h))+$";
const LENGTH_MAX: usize = 32;

impl Duration {
    /// Whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(std::time::Duration::from_secs(secs))
    }

    /// Milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// The same length of time as the standard library's type.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text.is_empty() || text.len() > LENGTH_MAX {
            return Err(DurationError);
        }
        let (mut rest, mut millis) = (text, 0u64);
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            if !(1..=9).contains(&digits) {
                return Err(DurationError);
            }
            let number: u64 = number.parse().map_err(|_| DurationError)?;
            // `ms` stands before `m`, which it begins with.
            let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
            let (unit, factor) =
                units.into_iter().find(|(unit, _)| tail.starts_with(unit)).ok_or(DurationError)?;
            millis += number * factor;
            rest = &tail[unit.len()..];
        }
        Ok(Self::from_millis(millis))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            _ if !millis.is_multiple_of(1_000) => write!(f, "{millis}ms"),
            _ if millis != 0 && millis.is_multiple_of(3_600_000) => write!(f, "{}h", millis / 3_600_000),
            _ if millis != 0 && millis.is_multiple_of(60_000) => write!(f, "{}m", millis / 60_000),
            _ => write!(f, "{}s", millis / 1_000),
        }
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 100ms, 10s or 1m, with its unit")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl schemars::JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": LENGTH_MAX,
            "x-kubernetes-validations": [{
                "rule": format!("self.matches('{PATTERN}')"),
                "message": words::DURATION,
            }],
        })
    }
}

/// The rule that a duration lies between two others, both included. Silent on what is no duration: another rule speaks there.
pub(super) fn between(from: &str, to: &str, message: &str) -> kube::core::Rule {
    let cel = format!(
        "!self.matches('{PATTERN}') || (duration(self) >= duration('{from}') && duration(self) <= duration('{to}'))"
    );
    kube::core::Rule::new(cel).message(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, millis, shown) in [
            ("0s", 0, "0s"),
            ("100ms", 100, "100ms"),
            ("10s", 10_000, "10s"),
            ("1m", 60_000, "1m"),
            ("90s", 90_000, "90s"),
            ("1h30m", 5_400_000, "90m"),
            ("1s500ms", 1_500, "1500ms"),
            ("1000ms", 1_000, "1s"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(
                (duration.get().as_millis(), duration.to_string().as_str()),
                (millis, shown),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "10", "s", "-1s", "1.5s", "1 s", "1d", "10S", "9999999999s", "1s1", "１s"] {
            assert_eq!(text.parse::<Duration>(), Err(DurationError), "{text}");
        }
    }
}
