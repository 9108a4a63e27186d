//! The strength of a token, as far as its text shows.

use std::collections::BTreeSet;

/// Minimum strength of a token that authorizes HTTP requests, in bits: that of 16 random bytes.
pub const LEAST: u32 = 128;

/// Number of characters of a token that are examined.
const LONGEST: usize = 1024;

/// The sizes of the alphabets that random tokens are commonly written in.
const DIGITS: usize = 10;
const HEX: usize = 16;
const LETTERS: usize = 26;
const BASE64: usize = 64;

/// An upper estimate of a token's strength, in bits: its length times the bits of a character of
/// its alphabet. A repetition of a shorter text counts once, and an alphabet of which few
/// characters occur has only these. Whether the characters were chosen at random cannot be seen.
pub fn bits(token: &str) -> u32 {
    // Padding of base64 adds nothing.
    let characters: Vec<char> = token.trim_end_matches('=').chars().take(LONGEST).collect();
    let length = period(&characters);
    let distinct = characters.iter().collect::<BTreeSet<_>>().len();
    let alphabet = alphabet(&characters);
    // Of random characters, more than half of the alphabet occur, or of the places have a character
    // of their own.
    let alphabet = if 2 * distinct < alphabet.min(length) { distinct } else { alphabet };
    // Rounded up by less than a millionth of a bit: 32 digits of base 16 are 128 bits.
    (length as f64 * (alphabet.max(1) as f64).log2() + 1e-6) as u32
}

/// The length of the shortest text that the characters are a repetition of: twice or more, the last
/// time perhaps cut off.
fn period(characters: &[char]) -> usize {
    let repeats = |length: &usize| {
        let later = characters.iter().skip(*length);
        later.zip(characters).all(|(later, earlier)| later == earlier)
    };
    (1..=characters.len() / 2).find(repeats).unwrap_or(characters.len())
}

/// The size of the smallest common alphabet that has all these characters.
fn alphabet(characters: &[char]) -> usize {
    let all = |is: fn(&char) -> bool| characters.iter().all(is);
    let is_digit = |c: &char| c.is_ascii_digit();
    if all(is_digit) {
        DIGITS
    } else if all(|c| matches!(c, '0'..='9' | 'a'..='f'))
        || all(|c| matches!(c, '0'..='9' | 'A'..='F'))
    {
        HEX
    } else if all(char::is_ascii_lowercase) || all(char::is_ascii_uppercase) {
        LETTERS
    } else if all(|c| c.is_ascii_alphanumeric() || "+/-_".contains(*c)) {
        BASE64
    } else {
        let any = |is: fn(&char) -> bool, size| if characters.iter().any(is) { size } else { 0 };
        let others = characters.iter().filter(|c| !c.is_ascii_alphanumeric());
        any(is_digit, DIGITS)
            + any(char::is_ascii_lowercase, LETTERS)
            + any(char::is_ascii_uppercase, LETTERS)
            + others.collect::<BTreeSet<_>>().len()
    }
}

#[cfg(test)]
mod tests {
    use base64_simd::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_tokens_and_those_of_few_characters_are_weak() {
        for (token, expected) in [
            ("", 0),
            ("x", 4),
            ("=", 0),
            ("correct horse", 61),
            ("0123456789abcdef", 64),
            ("01234567890123456789012345678901", 33),
            ("0123456789abcdef0123456789abcdef", 64),
            ("abababababababababababababababababababab", 8),
            ("f0f1f0f0f1f1f0f1f0f0f0f1f1f1f0f1f0f1f0f0", 63),
        ] {
            assert_eq!(bits(token), expected, "{token}");
        }
        assert_eq!(bits(&"x".repeat(1 << 20)), 4);
        assert!(bits("8ePqYiqbZ4AnXB2hWx8WQ") < LEAST, "21 characters of base 64");
    }

    proptest! {
        /// In whatever way they are written.
        #[test]
        fn sixteen_random_bytes_are_strong(bytes: [u8; 16]) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let encodings = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
            let encoded = encodings.map(|encoding| encoding.encode_to_string(bytes));
            // Which a random generator makes once in some millions of times.
            prop_assume!(!hex.bytes().all(|b| b.is_ascii_digit()) && hex.bytes().collect::<BTreeSet<_>>().len() > 7);
            for token in encoded.into_iter().chain([hex.to_uppercase(), hex]) {
                prop_assert!(bits(&token) >= LEAST, "{token}: {}", bits(&token));
            }
        }

        #[test]
        fn eight_random_bytes_are_weak(bytes: [u8; 8]) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert!(bits(&hex) <= 64 && bits(&STANDARD.encode_to_string(bytes)) <= 66);
        }
    }
}
