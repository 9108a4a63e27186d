//! Where a text in UTF-8 may be cut without tearing a character.

/// How far a position is into a character, in bytes from its beginning, and how many of its bytes
/// are still to come; none where the position is between two characters, or in bytes that are none.
///
/// `before` are the three bytes before the position, `after` those after it, fewer where there are
/// fewer. With `growing`, a character that would go on beyond the last byte counts: it may still
/// come.
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
        // What there is of it is right so far.
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
        // A text that ends in the middle of a character, for ever or for now.
        assert_eq!(at(b"a\xe2\x82", 3, false), None);
        assert_eq!(at(b"a\xe2\x82", 3, true), Some((2, 0)));
        assert_eq!(at(b"a\xe2\x82", 2, true), Some((1, 1)));
        // Bytes that are no text are cut anywhere.
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
