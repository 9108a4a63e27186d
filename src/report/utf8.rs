//! Finds positions at which UTF-8 text can be cut without splitting a character.

/// For a position within a character, the number of the character's bytes before and after it.
/// `None` if the position is between two characters, or in invalid UTF-8.
///
/// `before` and `after` are the three bytes before and after the position, or fewer at the ends of
/// the text. With `growing`, a character that the end of the text cuts off counts, because its
/// remaining bytes may still follow.
pub fn boundary(before: &[u8], after: &[u8], growing: bool) -> Option<(usize, usize)> {
    let back = 1 + before.iter().rev().take(3).position(|byte| byte & 0xc0 != 0x80)?;
    let begun = before.get(before.len().checked_sub(back)?..)?;
    let length = match begun.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let rest: usize = length - back.min(length);
    if rest == 0 {
        return None;
    }
    let there = after.get(..rest).unwrap_or(after);
    match std::str::from_utf8(&[begun, there].concat()) {
        Ok(_) => Some((back, rest)),
        // A valid beginning of a character.
        Err(error) if growing && error.valid_up_to() == 0 && error.error_len().is_none() => {
            Some((back, there.len()))
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &[u8], position: usize, growing: bool) -> Option<(usize, usize)> {
        let after = &text[position..];
        boundary(&text[position.saturating_sub(3)..position], &after[..after.len().min(3)], growing)
    }

    #[test]
    fn cuts() {
        let text = "aä€😀".as_bytes();
        let torn: Vec<_> = (0..=text.len()).map(|position| at(text, position, false)).collect();
        let (none, in_two) = (None, Some((1, 1)));
        let (three_1, three_2) = (Some((1, 2)), Some((2, 1)));
        let four = [Some((1, 3)), Some((2, 2)), Some((3, 1))];
        assert_eq!(
            torn,
            [none, none, in_two, none, three_1, three_2, none, four[0], four[1], four[2], none]
        );
        // A text that ends within a character: complete, or still growing.
        assert_eq!(at(b"a\xe2\x82", 3, false), None);
        assert_eq!(at(b"a\xe2\x82", 3, true), Some((2, 0)));
        assert_eq!(at(b"a\xe2\x82", 2, true), Some((1, 1)));
        // Invalid UTF-8 can be cut anywhere.
        for (bytes, position) in
            [(&b"\x80\x80\x80"[..], 2), (b"\xff\x80", 1), (b"\xe2a", 1), (b"\xc2\xc2", 1)]
        {
            assert_eq!(at(bytes, position, true), None, "{bytes:?}");
        }
        assert_eq!(at(b"", 0, true), None);
    }

    proptest! {
        #[test]
        fn only_inside_of_characters(text: String, position: prop::sample::Index) {
            let position = position.index(text.len() + 1);
            let torn = at(text.as_bytes(), position, false);
            prop_assert_eq!(torn.is_none(), text.is_char_boundary(position));
            if let Some((back, rest)) = torn {
                prop_assert!(text.is_char_boundary(position - back));
                prop_assert!(text.is_char_boundary(position + rest));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, position: prop::sample::Index, growing: bool) {
            let _ = at(&bytes, position.index(bytes.len() + 1), growing);
        }
    }
}
