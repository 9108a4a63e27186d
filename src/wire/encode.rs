//! MessagePack, as far as the agent's messages need it: appended to a buffer, in the shortest form,
//! without a way to fail.

/// The length that a 32-bit header can declare, of what there is.
fn clip(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The header of a map of `len` pairs.
pub(super) fn map(out: &mut Vec<u8>, len: u8) {
    if len < 16 {
        out.push(0x80 | len);
    } else {
        out.extend([0xde, 0, len]);
    }
}

/// A string, truncated at 4 GiB.
pub(super) fn str(out: &mut Vec<u8>, text: &str) {
    let len = clip(text.len());
    match len {
        0..=31 => out.push(0xa0 | len as u8),
        32..=0xff => out.extend([0xd9, len as u8]),
        0x100..=0xffff => {
            out.push(0xda);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdb);
            out.extend(len.to_be_bytes());
        }
    }
    out.extend(text.as_bytes().iter().take(len as usize));
}

/// A string, or null.
pub(super) fn opt_str(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => str(out, text),
        None => out.push(0xc0),
    }
}

/// An array of strings. Those beyond 2^32 are left out.
pub(super) fn strs<S: AsRef<str>>(out: &mut Vec<u8>, texts: &[S]) {
    let len = clip(texts.len());
    match len {
        0..=15 => out.push(0x90 | len as u8),
        16..=0xffff => {
            out.push(0xdc);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xdd);
            out.extend(len.to_be_bytes());
        }
    }
    for text in texts.iter().take(len as usize) {
        str(out, text.as_ref());
    }
}

/// An unsigned integer.
pub(super) fn uint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend([0xcc, value as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend((value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend((value as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend(value.to_be_bytes());
        }
    }
}

/// The header of binary data of `len` bytes, which the caller appends.
pub(super) fn bin_header(out: &mut Vec<u8>, len: u32) {
    match len {
        0..=0xff => out.extend([0xc4, len as u8]),
        0x100..=0xffff => {
            out.push(0xc5);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xc6);
            out.extend(len.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn another_decoder_reads_the_same(
            text in ".{0,100}", long in 0usize..100_000, many in 0usize..70_000, value: u64, shift in 0u32..64,
        ) {
            let long = "x".repeat(long);
            let mut out = Vec::new();
            map(&mut out, 17);
            prop_assert_eq!(&out, &[0xde, 0, 17]);

            let value = value >> shift;
            let mut out = Vec::new();
            uint(&mut out, value);
            prop_assert_eq!(&out, &rmp_serde::to_vec(&value).unwrap());

            for text in [&text, &long] {
                let mut out = Vec::new();
                str(&mut out, text);
                prop_assert_eq!(&out, &rmp_serde::to_vec(text).unwrap());
            }

            let texts = vec![""; many];
            let mut out = Vec::new();
            strs(&mut out, &texts);
            prop_assert_eq!(&out, &rmp_serde::to_vec(&texts).unwrap());

            let bytes = serde_bytes::Bytes::new(long.as_bytes());
            let mut out = Vec::new();
            bin_header(&mut out, long.len() as u32);
            out.extend(long.as_bytes());
            prop_assert_eq!(&out, &rmp_serde::to_vec(bytes).unwrap());
        }
    }
}
