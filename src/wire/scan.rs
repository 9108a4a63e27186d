//! A shallow scanner over MessagePack: finds where values begin and end, and builds nothing.
//!
//! It is iterative and trusts no declared length: nesting costs no stack, and a length beyond the
//! input is an error, not an allocation.

use thiserror::Error;

/// Why bytes are not MessagePack.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum ScanError {
    /// A value, or its declared length, exceeds the message.
    #[error("messagepack value is cut short")]
    Truncated,
    /// The one byte that begins no value.
    #[error("messagepack has the reserved byte 0xc1")]
    Reserved,
}

/// The head of a value. Of arrays and maps, the elements follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    Bool,
    /// An integer of any width, signed or not.
    Int(i128),
    Float,
    /// A string's bytes, which may be no UTF-8.
    Str(&'a [u8]),
    Bin,
    /// How many values follow.
    Array(u32),
    /// How many pairs of values follow.
    Map(u32),
    Ext,
}

impl Token<'_> {
    /// How many values follow as this one's parts.
    fn children(self) -> u64 {
        match self {
            Self::Array(len) => u64::from(len),
            Self::Map(len) => 2 * u64::from(len),
            _ => 0,
        }
    }

    /// What to call this in an error.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Nil => "null",
            Self::Bool => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float => "a float",
            Self::Str(_) => "a string",
            Self::Bin => "binary",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Ext => "an extension",
        }
    }
}

/// A position in MessagePack bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything is read.
    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads the head of the next value, with the bytes of a string, binary or extension.
    pub(super) fn token(&mut self) -> Result<Token<'a>, ScanError> {
        let [first] = self.fixed()?;
        Ok(match first {
            0x00..=0x7f => Token::Int(first.into()),
            0x80..=0x8f => Token::Map((first & 0x0f).into()),
            0x90..=0x9f => Token::Array((first & 0x0f).into()),
            0xa0..=0xbf => Token::Str(self.take((first & 0x1f).into())?),
            0xc0 => Token::Nil,
            0xc1 => return Err(ScanError::Reserved),
            0xc2 | 0xc3 => Token::Bool,
            0xc4..=0xc6 => self.sized(first - 0xc4, 0).map(|_| Token::Bin)?,
            0xc7..=0xc9 => self.sized(first - 0xc7, 1).map(|_| Token::Ext)?,
            0xca => self.take(4).map(|_| Token::Float)?,
            0xcb => self.take(8).map(|_| Token::Float)?,
            0xcc => Token::Int(u8::from_be_bytes(self.fixed()?).into()),
            0xcd => Token::Int(u16::from_be_bytes(self.fixed()?).into()),
            0xce => Token::Int(u32::from_be_bytes(self.fixed()?).into()),
            0xcf => Token::Int(u64::from_be_bytes(self.fixed()?).into()),
            0xd0 => Token::Int(i8::from_be_bytes(self.fixed()?).into()),
            0xd1 => Token::Int(i16::from_be_bytes(self.fixed()?).into()),
            0xd2 => Token::Int(i32::from_be_bytes(self.fixed()?).into()),
            0xd3 => Token::Int(i64::from_be_bytes(self.fixed()?).into()),
            // A type byte, then 1, 2, 4, 8 or 16 bytes.
            0xd4..=0xd8 => self.take(1 + (1 << (first - 0xd4))).map(|_| Token::Ext)?,
            0xd9..=0xdb => Token::Str(self.sized(first - 0xd9, 0)?),
            0xdc => Token::Array(u16::from_be_bytes(self.fixed()?).into()),
            0xdd => Token::Array(u32::from_be_bytes(self.fixed()?)),
            0xde => Token::Map(u16::from_be_bytes(self.fixed()?).into()),
            0xdf => Token::Map(u32::from_be_bytes(self.fixed()?)),
            0xe0..=0xff => Token::Int(i8::from_be_bytes([first]).into()),
        })
    }

    /// Passes over the next value with all that is in it, and returns its bytes.
    pub(super) fn value(&mut self) -> Result<&'a [u8], ScanError> {
        let start = self.rest;
        let mut pending = 1u64;
        while pending > 0 {
            pending = pending - 1 + self.token()?.children();
            // Every value takes a byte at least. This ends a lie about a length early, and keeps
            // the count from overflowing.
            if pending > self.rest.len() as u64 {
                return Err(ScanError::Truncated);
            }
        }
        Ok(start.get(..start.len() - self.rest.len()).unwrap_or_default())
    }

    /// Bytes behind a length of 1, 2 or 4 bytes (for `width` 0, 1, 2); `extra` more than it says.
    fn sized(&mut self, width: u8, extra: usize) -> Result<&'a [u8], ScanError> {
        let len = match width {
            0 => u8::from_be_bytes(self.fixed()?).into(),
            1 => u16::from_be_bytes(self.fixed()?).into(),
            _ => u32::from_be_bytes(self.fixed()?),
        };
        let len = usize::try_from(len).map_err(|_| ScanError::Truncated)?;
        self.take(len.checked_add(extra).ok_or(ScanError::Truncated)?)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ScanError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(ScanError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], ScanError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ScanError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value(bytes: &[u8]) -> Result<(&[u8], bool), ScanError> {
        let mut scanner = Scanner::new(bytes);
        scanner.value().map(|value| (value, scanner.at_end()))
    }

    #[test]
    fn every_first_byte_determines_the_size() {
        let size = |first: u8| match first {
            0x80..=0xbf => None,
            0xc4 | 0xd9 => Some(2),
            0xc5 | 0xda => Some(3),
            0xc6 | 0xdb => Some(5),
            0xc7 => Some(3),
            0xc8 => Some(4),
            0xc9 => Some(6),
            0xca | 0xce | 0xd2 => Some(5),
            0xcb | 0xcf | 0xd3 => Some(9),
            0xcc | 0xd0 => Some(2),
            0xcd | 0xd1 | 0xdc | 0xde => Some(3),
            0xdd | 0xdf => Some(5),
            0xd4 => Some(3),
            0xd5 => Some(4),
            0xd6 => Some(6),
            0xd7 => Some(10),
            0xd8 => Some(18),
            _ => Some(1),
        };
        for first in 0..=255u8 {
            let mut bytes = [0; 32];
            bytes[0] = first;
            match (value(&bytes), size(first)) {
                (Err(ScanError::Reserved), _) => assert_eq!(first, 0xc1),
                (Ok((value, _)), Some(size)) => assert_eq!(value.len(), size, "{first:#x}"),
                (Ok((value, _)), None) => assert!(value.len() <= 32),
                (Err(err), _) => panic!("{first:#x}: {err}"),
            }
        }
    }

    #[test]
    fn false_lengths_and_deep_nesting_cost_no_memory() {
        for lie in [&[0xdd, 255, 255, 255, 255][..], &[0xdf, 255, 255, 255, 255, 1, 2, 3]] {
            assert_eq!(value(lie), Err(ScanError::Truncated));
        }
        assert_eq!(value(&[0xc6, 255, 255, 255, 255, 0]), Err(ScanError::Truncated));
        assert_eq!(value(&[0xc9, 255, 255, 255, 255, 0]), Err(ScanError::Truncated));
        let deep = [vec![0x91; 1_000_000], vec![0xc0]].concat();
        assert_eq!(value(&deep), Ok((&deep[..], true)));
        assert_eq!(value(&deep[..1_000_000]), Err(ScanError::Truncated));
        let maps = [0xdf, 255, 255, 255, 255].repeat(100_000);
        assert_eq!(value(&maps), Err(ScanError::Truncated));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::hash_map(".{0,8}", inner, 0..20)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_ends_where_another_encoder_ends_it(a in any_value(), b in any_value()) {
            let (a, b) = (rmp_serde::to_vec(&a).unwrap(), rmp_serde::to_vec(&b).unwrap());
            let both = [&a[..], &b].concat();
            let mut scanner = Scanner::new(&both);
            prop_assert_eq!(scanner.value(), Ok(&a[..]));
            prop_assert_eq!(scanner.value(), Ok(&b[..]));
            prop_assert!(scanner.at_end());
            for cut in 0..a.len() {
                prop_assert_eq!(value(&a[..cut]), Err(ScanError::Truncated));
            }
        }

        #[test]
        fn any_bytes_are_an_answer_not_a_panic(bytes: Vec<u8>) {
            if let Ok((value, _)) = value(&bytes) {
                prop_assert!(bytes.starts_with(value) && !value.is_empty());
            }
        }

        #[test]
        fn integers_of_any_width(int: i64) {
            let bytes = rmp_serde::to_vec(&json!(int)).unwrap();
            prop_assert_eq!(Scanner::new(&bytes).token(), Ok(Token::Int(int.into())));
        }
    }
}
