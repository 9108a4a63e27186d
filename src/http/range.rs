//! The header `Range`.

use std::ops::Range;

/// The bytes that a request selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ByteRange {
    /// All bytes: the header is absent, or has to be ignored (another unit, several ranges, invalid
    /// syntax).
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Bytes that do not exist.
    Unsatisfiable,
}

/// Reads the value of a header `Range` for something of `length` bytes.
pub(super) fn byte_range(header: Option<&[u8]>, length: u64) -> ByteRange {
    let text = header.and_then(|header| std::str::from_utf8(header).ok()).unwrap_or_default();
    match parse(text) {
        None => ByteRange::Whole,
        Some(RangeSpec::From(first, last)) if first < length => {
            ByteRange::Part(first..last.map_or(length, |last| last.saturating_add(1).min(length)))
        }
        Some(RangeSpec::Last(count)) if count > 0 && length > 0 => {
            ByteRange::Part(length.saturating_sub(count)..length)
        }
        Some(_) => ByteRange::Unsatisfiable,
    }
}

enum RangeSpec {
    From(u64, Option<u64>),
    Last(u64),
}

fn parse(text: &str) -> Option<RangeSpec> {
    let (unit, range) = text.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number that overflows exceeds every length, too.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first.trim(), last.trim()) {
        ("", last) => number(last).map(RangeSpec::Last),
        (first, "") => number(first).map(|first| RangeSpec::From(first, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(RangeSpec::From(first, Some(last)))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_parsed_and_invalid_ones_ignored() {
        for (header, wanted_of_ten) in [
            ("bytes=0-0", ByteRange::Part(0..1)),
            ("bytes=2-5", ByteRange::Part(2..6)),
            ("Bytes = 2 - 5", ByteRange::Part(2..6)),
            ("bytes=2-", ByteRange::Part(2..10)),
            ("bytes=9-99999999999999999999999", ByteRange::Part(9..10)),
            ("bytes=-3", ByteRange::Part(7..10)),
            ("bytes=-11", ByteRange::Part(0..10)),
            ("bytes=10-", ByteRange::Unsatisfiable),
            ("bytes=10-11", ByteRange::Unsatisfiable),
            ("bytes=-0", ByteRange::Unsatisfiable),
            ("bytes=99999999999999999999999-", ByteRange::Unsatisfiable),
            ("bytes=5-2", ByteRange::Whole),
            ("bytes=-", ByteRange::Whole),
            ("bytes=+1-2", ByteRange::Whole),
            ("bytes=0-1,3-4", ByteRange::Whole),
            ("lines=0-1", ByteRange::Whole),
            ("bytes", ByteRange::Whole),
            ("", ByteRange::Whole),
        ] {
            assert_eq!(byte_range(Some(header.as_bytes()), 10), wanted_of_ten, "{header}");
        }
        assert_eq!(byte_range(None, 10), ByteRange::Whole);
        assert_eq!(byte_range(Some(b"bytes=0-"), 0), ByteRange::Unsatisfiable);
        assert_eq!(byte_range(Some(b"bytes=-1"), 0), ByteRange::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_or_out_of_bounds(header in "bytes=[0-9]{0,21}-[0-9]{0,21}", length: u64) {
            if let ByteRange::Part(part) = byte_range(Some(header.as_bytes()), length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }
    }
}
