//! Texts that users write: their encoding, which is UTF-8, and their slips of the finger.

/// The mark that some editors put at the beginning.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What is wrong with a text in UTF-16.
pub(crate) const UTF_16: &str = "the text is UTF-16: convert it to UTF-8";

/// A text without the byte order mark that it may begin with; its first character is that of a spec
/// or a configuration file, which is ASCII.
///
/// # Errors
/// [`UTF_16`], where that is what it is in.
pub(crate) fn utf8(text: &[u8]) -> Result<&[u8], &'static str> {
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(UTF_16),
        // Without a mark: an ASCII character of two bytes.
        [0, 1..=0x7f, ..] | [1..=0x7f, 0, ..] => Err(UTF_16),
        _ => Ok(text.strip_prefix(MARK).unwrap_or(text)),
    }
}

/// Levenshtein's distance, in characters.
pub(crate) fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (b, (diagonal, above)) in to.chars().zip(row.iter().zip(row.iter().skip(1))) {
            left = (diagonal + usize::from(a != b)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod distance_tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn distance_is_a_metric(a in "[a-c.]{0,8}", b in "[a-c.]{0,8}", c in "[a-c.]{0,8}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }
    }
}
