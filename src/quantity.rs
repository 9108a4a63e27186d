//! Durations and sizes as people write them, for specs, configuration, command line and HTTP
//! queries alike.
//!
//! A duration is a number of seconds, or numbers with units (`1h30m`, `500ms`). A size is a number
//! of bytes, or a number with a unit of a power of 1024 (`64M`, `1GiB`). [`Seconds`] and
//! [`ByteSize`] implement [`FromStr`] for options and queries, and serde and JSON Schema for JSON:
//! both read a number or a string, and write a number.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The expected form of a duration, for errors and help.
pub const DURATION_FORM: &str =
    "a number of seconds, or numbers with units (ms, s, m, h, d, w) such as 500ms, 15m or 1h30m";

/// The expected form of a size, for errors and help.
pub const SIZE_FORM: &str =
    "a number of bytes, or a number with K, M, G or T (powers of 1024) such as 64M or 1GiB";

/// A duration of 0 to [`Seconds::MAX`] seconds. It keeps the number as it was given, so that it is
/// written back unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Seconds(f64);

impl Seconds {
    /// The longest duration (300 years): a longer one could overflow a clock.
    pub const MAX: f64 = 1e10;

    /// The longest duration.
    pub const LONGEST: Seconds = Seconds(Seconds::MAX);

    /// A number of seconds; none if it is not in 0 to [`Seconds::MAX`].
    pub fn new(seconds: f64) -> Option<Seconds> {
        (0.0..=Seconds::MAX).contains(&seconds).then_some(Seconds(seconds))
    }

    /// A whole number of seconds.
    pub const fn whole(seconds: u32) -> Seconds {
        Seconds(seconds as f64)
    }

    /// The number of seconds.
    pub fn get(self) -> f64 {
        self.0
    }

    /// As a duration of the standard library, rounded to nanoseconds.
    pub fn duration(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0)
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse::<f64>().ok().or_else(|| sum_of_units(text));
        match seconds {
            None => Err(format!("invalid duration {text:?}: expected {DURATION_FORM}")),
            Some(seconds) => Seconds::new(seconds).ok_or_else(|| out_of_range(text)),
        }
    }
}

fn out_of_range(given: impl fmt::Display) -> String {
    format!("invalid duration {given}: expected 0 to {:e} seconds", Seconds::MAX)
}

/// The seconds in a text such as `1h30m` or `1h 30m`.
fn sum_of_units(text: &str) -> Option<f64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let factor = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" | "hr" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail.trim_start();
    }
    Some(seconds)
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text.trim())
            .map(ByteSize)
            .ok_or_else(|| format!("invalid size {text:?}: expected {SIZE_FORM}"))
    }
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor),
        // A fraction of a unit, but not of a byte.
        Err(_) if factor > 1 => {
            let size = number.parse::<f64>().ok()? * factor as f64;
            (size < u64::MAX as f64).then_some(size as u64)
        }
        Err(_) => None,
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecondsVisitor;
        impl Visitor<'_> for SecondsVisitor {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(DURATION_FORM)
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Seconds, E> {
                Seconds::new(seconds).ok_or_else(|| E::custom(out_of_range(seconds)))
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Seconds, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Seconds, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Seconds, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SecondsVisitor)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SIZE_FORM)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                let negative = |_| E::custom(format!("invalid size {bytes}: it is negative"));
                u64::try_from(bytes).map(ByteSize).map_err(negative)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of seconds, or numbers with units: 500ms, 15m, 1h30m, 2d.",
            "oneOf": [
                {"type": "number", "minimum": 0, "maximum": Seconds::MAX},
                {"type": "string", "minLength": 1},
            ],
        })
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes, or a number with K, M, G or T (powers of 1024): 64M, 1GiB.",
            "oneOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^ *[0-9.]+ *([KkMGT]|[KMGT]iB|B)? *$"},
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_seconds_or_sums_of_units() {
        for (text, seconds) in [
            ("0", 0.0),
            ("90", 90.0),
            ("1.5", 1.5),
            ("500ms", 0.5),
            ("250us", 0.000_25),
            ("1.5s", 1.5),
            ("15m", 900.0),
            ("15min", 900.0),
            ("1h30m", 5400.0),
            ("1h 30m", 5400.0),
            ("2d", 172_800.0),
            ("1w", 604_800.0),
        ] {
            assert_eq!(text.parse::<Seconds>().map(Seconds::get), Ok(seconds), "{text}");
        }
        for text in ["", " ", "h", "5 parsecs", "1h30", "-1s", "1..5s", "90S"] {
            let error = text.parse::<Seconds>().unwrap_err();
            assert!(error.starts_with(&format!("invalid duration {text:?}: expected")), "{error}");
        }
        for text in ["-1", "inf", "nan", "1e11", "100000000w"] {
            let error = text.parse::<Seconds>().unwrap_err();
            assert!(error.ends_with("expected 0 to 1e10 seconds"), "{error}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("64M", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2T", 2 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(size)), "{text}");
        }
        for text in ["", "M", "1.5", "-1", "64MB", "64m", "16777216T", "99999999999T", "1e3"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.starts_with(&format!("invalid size {text:?}: expected")), "{error}");
        }
    }

    #[test]
    fn json_has_numbers_or_strings() {
        let seconds = |text| serde_json::from_str::<Seconds>(text).map(Seconds::get);
        assert_eq!(seconds("5").unwrap(), 5.0);
        assert_eq!(seconds("0.25").unwrap(), 0.25);
        assert_eq!(seconds("\"1m\"").unwrap(), 60.0);
        assert!(seconds("-1").unwrap_err().to_string().starts_with("invalid duration -1"));
        assert!(seconds("true").unwrap_err().to_string().contains(DURATION_FORM));
        let size = |text| serde_json::from_str::<ByteSize>(text).map(|size| size.0);
        assert_eq!(size("5").unwrap(), 5);
        assert_eq!(size("\"1K\"").unwrap(), 1024);
        assert!(size("-1").unwrap_err().to_string().contains("negative"));
        assert!(size("1.5").unwrap_err().to_string().contains(SIZE_FORM));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,20}", number in "[0-9.]{0,25}", unit in "[a-zA-Z]{0,3}") {
            let _ = (text.parse::<Seconds>(), text.parse::<ByteSize>());
            let quantity = format!("{number}{unit}");
            let _ = (quantity.parse::<Seconds>().map(Seconds::duration), quantity.parse::<ByteSize>());
        }

        #[test]
        fn numbers_are_read_back(seconds in 0.0..1e10, bytes: u64) {
            let written = serde_json::to_string(&Seconds(seconds)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Seconds>(&written).unwrap(), Seconds(seconds));
            let written = serde_json::to_string(&ByteSize(bytes)).unwrap();
            prop_assert_eq!(serde_json::from_str::<ByteSize>(&written).unwrap(), ByteSize(bytes));
        }
    }
}
