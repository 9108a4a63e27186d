//! Compressed bodies: the codings that a client accepts, and bodies in them.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use super::body_stream::BodySource;

/// The encoder's window, as a power of two: the memory for a body is several times that.
const WINDOW: u32 = 18;
/// A shorter body is sent uncompressed.
pub(super) const WORTH: u64 = 1024;
/// Minimum gain of a compressed body, in percent; otherwise the body is sent uncompressed.
const GAIN: usize = 10;

/// A coding of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentEncoding {
    /// Uncompressed.
    Identity,
    Gzip,
    Brotli,
    Zstd,
}

/// The compressing codings, by our preference among those that a client prefers equally.
pub(super) const COMPRESSED: &[ContentEncoding] =
    &[ContentEncoding::Zstd, ContentEncoding::Brotli, ContentEncoding::Gzip];

/// The codings that a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AcceptedEncoding {
    /// The client's preferred one.
    pub(super) coding: ContentEncoding,
    /// Whether it accepts the uncompressed bytes, too.
    pub(super) identity: bool,
}

impl ContentEncoding {
    /// The name in `Accept-Encoding` and `Content-Encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            ContentEncoding::Identity => "identity",
            ContentEncoding::Gzip => "gzip",
            ContentEncoding::Brotli => "br",
            ContentEncoding::Zstd => "zstd",
        }
    }
}

impl AcceptedEncoding {
    /// Chooses by the values of `Accept-Encoding` between the uncompressed bytes and these codings;
    /// `None` if the client accepts none of them.
    pub(super) fn of<'a>(
        codings: &[ContentEncoding],
        headers: impl Iterator<Item = &'a [u8]>,
    ) -> Option<AcceptedEncoding> {
        let accepted = AcceptEncoding::parse(headers);
        // Uncompressed bytes are acceptable unless excluded.
        let weight = accepted.weight("identity").unwrap_or(1);
        let identity = weight > 0;
        let best = codings
            .iter()
            .map(|coding| (accepted.weight(coding.name()).unwrap_or(0), *coding))
            // `max_by_key` returns the last of equal ones.
            .rev()
            .max_by_key(|(weight, _)| *weight)
            .filter(|(best, _)| *best > 0 && *best >= weight);
        let coding =
            best.map(|(_, coding)| coding).or(identity.then_some(ContentEncoding::Identity))?;
        Some(AcceptedEncoding { coding, identity })
    }

    /// A whole body in the preferred coding, and that coding; uncompressed if compression gains
    /// nothing and the client accepts that.
    ///
    /// # Errors
    /// The encoder cannot be created.
    pub(super) fn encode(self, whole: Bytes) -> io::Result<(ContentEncoding, Bytes)> {
        let small = whole.len() < WORTH as usize;
        if self.identity && (small || self.coding == ContentEncoding::Identity) {
            return Ok((ContentEncoding::Identity, whole));
        }
        let mut packed = Vec::new();
        let mut coded = EncodedBody::new(Once(Some(whole.clone())), self.coding)?;
        while let Some(block) = coded.next_block()? {
            packed.extend_from_slice(&block);
        }
        match self.identity && !gains(whole.len(), packed.len()) {
            true => Ok((ContentEncoding::Identity, whole)),
            false => Ok((self.coding, packed.into())),
        }
    }
}

/// A body of one block.
struct Once(Option<Bytes>);

impl BodySource for Once {
    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.0.take())
    }
}

/// The content of `Accept-Encoding`: names and weights in thousandths.
struct AcceptEncoding(Vec<(String, u16)>);

impl AcceptEncoding {
    fn parse<'a>(headers: impl Iterator<Item = &'a [u8]>) -> AcceptEncoding {
        let mut accepted = Vec::new();
        for header in headers {
            for item in String::from_utf8_lossy(header).split(',') {
                let mut parts = item.split(';');
                let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
                let weight = parts.find_map(|part| {
                    let (key, value) = part.split_once('=')?;
                    key.trim().eq_ignore_ascii_case("q").then(|| weight(value.trim()))
                });
                let name = if name == "x-gzip" { "gzip".to_owned() } else { name };
                accepted.push((name, weight.unwrap_or(1000)));
            }
        }
        AcceptEncoding(accepted)
    }

    /// The weight of a coding; `None` if the header does not mention it.
    fn weight(&self, name: &str) -> Option<u16> {
        let of = |name: &str| self.0.iter().find(|(known, _)| known == name).map(|(_, w)| *w);
        of(name).or_else(|| of("*"))
    }
}

/// `0.5` is 500. An invalid weight is 0.
fn weight(text: &str) -> u16 {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => (value * 1000.0).round() as u16,
        _ => 0,
    }
}

/// Whether a body that begins with these bytes is worth compressing.
pub(super) fn shrinks(sample: &[u8]) -> bool {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = encoder.write_all(sample).and_then(|()| encoder.finish());
    packed.is_ok_and(|packed| gains(sample.len(), packed.len()))
}

fn gains(before: usize, after: usize) -> bool {
    after * 100 <= before * (100 - GAIN)
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

/// A body in another coding.
pub(super) struct EncodedBody<B> {
    blocks: B,
    /// `None` once the body has ended.
    encoder: Option<Encoder>,
}

impl<B: BodySource> EncodedBody<B> {
    /// Encodes `blocks` in a coding other than [`ContentEncoding::Identity`], which counts as gzip.
    ///
    /// # Errors
    /// The encoder cannot be created.
    pub(super) fn new(blocks: B, coding: ContentEncoding) -> io::Result<EncodedBody<B>> {
        let encoder =
            match coding {
                ContentEncoding::Identity | ContentEncoding::Gzip => {
                    Encoder::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(4)))
                }
                ContentEncoding::Brotli => Encoder::Brotli(Box::new(
                    brotli::CompressorWriter::new(Vec::new(), 4096, 4, WINDOW),
                )),
                ContentEncoding::Zstd => {
                    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
                    encoder.window_log(WINDOW)?;
                    Encoder::Zstd(encoder)
                }
            };
        Ok(EncodedBody { blocks, encoder: Some(encoder) })
    }
}

impl<B: BodySource> BodySource for EncodedBody<B> {
    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        let Some(encoder) = &mut self.encoder else { return Ok(None) };
        if let Some(block) = self.blocks.next_block()? {
            let packed = match encoder {
                Encoder::Gzip(encoder) => {
                    encoder.write_all(&block)?;
                    std::mem::take(encoder.get_mut())
                }
                Encoder::Brotli(encoder) => {
                    encoder.write_all(&block)?;
                    std::mem::take(encoder.get_mut())
                }
                Encoder::Zstd(encoder) => {
                    encoder.write_all(&block)?;
                    std::mem::take(encoder.get_mut())
                }
            };
            return Ok(Some(packed.into()));
        }
        let rest = match self.encoder.take() {
            Some(Encoder::Gzip(encoder)) => encoder.finish()?,
            Some(Encoder::Brotli(encoder)) => encoder.into_inner(),
            Some(Encoder::Zstd(encoder)) => encoder.finish()?,
            None => Vec::new(),
        };
        Ok(Some(rest.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn choose(header: &str) -> Option<(ContentEncoding, bool)> {
        let choice = AcceptedEncoding::of(COMPRESSED, [header.as_bytes()].into_iter());
        choice.map(|choice| (choice.coding, choice.identity))
    }

    #[test]
    fn the_coding_is_chosen_by_weight_and_our_preference() {
        for (header, choice) in [
            ("", Some((ContentEncoding::Identity, true))),
            ("gzip", Some((ContentEncoding::Gzip, true))),
            ("X-GZIP", Some((ContentEncoding::Gzip, true))),
            ("gzip, deflate, br, zstd", Some((ContentEncoding::Zstd, true))),
            ("gzip, br", Some((ContentEncoding::Brotli, true))),
            ("zstd;q=0.5, gzip", Some((ContentEncoding::Gzip, true))),
            ("zstd;q=0, br; q=0.1", Some((ContentEncoding::Brotli, true))),
            ("deflate", Some((ContentEncoding::Identity, true))),
            ("*", Some((ContentEncoding::Zstd, true))),
            ("*, zstd;q=0", Some((ContentEncoding::Brotli, true))),
            ("gzip;q=0.5, identity", Some((ContentEncoding::Identity, true))),
            ("gzip;q=0.5, identity;q=0.5", Some((ContentEncoding::Gzip, true))),
            ("identity;q=0", None),
            ("*;q=0", None),
            ("gzip, identity;q=0", Some((ContentEncoding::Gzip, false))),
            ("*;q=0, gzip", Some((ContentEncoding::Gzip, false))),
            ("*;q=0, identity", Some((ContentEncoding::Identity, true))),
            ("gzip;q=x", Some((ContentEncoding::Identity, true))),
            ("gzip;q=0.001", Some((ContentEncoding::Gzip, true))),
        ] {
            assert_eq!(choose(header), choice, "{header}");
        }
        let none = AcceptedEncoding::of(COMPRESSED, [].into_iter()).unwrap();
        assert_eq!((none.coding, none.identity), (ContentEncoding::Identity, true));
        let several = [&b"gzip;q=0.1"[..], b"br"];
        assert_eq!(
            AcceptedEncoding::of(COMPRESSED, several.into_iter()).unwrap().coding,
            ContentEncoding::Brotli
        );
        // Only the uncompressed bytes are available.
        assert_eq!(AcceptedEncoding::of(&[], [&b"gzip, identity;q=0"[..]].into_iter()), None);
        let gzip = AcceptedEncoding::of(
            &[ContentEncoding::Gzip],
            [&b"zstd, identity;q=0, gzip;q=0.1"[..]].into_iter(),
        );
        assert_eq!(gzip.unwrap().coding, ContentEncoding::Gzip);
    }

    #[test]
    fn incompressible_bodies_are_encoded_only_if_the_client_excludes_identity() {
        let mut random = vec![0; 5000];
        fastrand::Rng::with_seed(1).fill(&mut random);
        for (whole, worth) in [(b"{}".to_vec(), false), (random, false), (vec![7; 5000], true)] {
            for coding in COMPRESSED {
                for identity in [true, false] {
                    let choice = AcceptedEncoding { coding: *coding, identity };
                    let (used, packed) = choice.encode(whole.clone().into()).unwrap();
                    let expected =
                        if worth || !identity { *coding } else { ContentEncoding::Identity };
                    assert_eq!(used, expected, "{} {choice:?}", whole.len());
                    assert!(decode(used, &packed) == whole);
                }
            }
        }
    }

    /// A body of these blocks.
    struct Some_(std::vec::IntoIter<Vec<u8>>);

    impl BodySource for Some_ {
        fn next_block(&mut self) -> io::Result<Option<Bytes>> {
            Ok(self.0.next().map(Bytes::from))
        }
    }

    fn decode(coding: ContentEncoding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            ContentEncoding::Identity => out.extend_from_slice(bytes),
            ContentEncoding::Gzip => {
                drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out))
            }
            ContentEncoding::Brotli => {
                drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out));
            }
            ContentEncoding::Zstd => out = zstd::stream::decode_all(bytes).unwrap(),
        }
        out
    }

    #[test]
    fn every_coding_round_trips() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let mut random = vec![0; 300_000];
        fastrand::Rng::with_seed(1).fill(&mut random);
        assert!(shrinks(&text[..32 * 1024]) && !shrinks(&random[..32 * 1024]));
        for coding in COMPRESSED.iter().copied() {
            for whole in [&text, &random, &Vec::new(), &vec![0; 1_000_000]] {
                let blocks = whole.chunks(32 * 1024).map(<[u8]>::to_vec).collect::<Vec<_>>();
                let mut coded = EncodedBody::new(Some_(blocks.into_iter()), coding).unwrap();
                let mut packed = Vec::new();
                while let Some(block) = coded.next_block().unwrap() {
                    packed.extend_from_slice(&block);
                }
                assert!(decode(coding, &packed) == *whole, "{coding:?} {}", whole.len());
                assert!(packed.len() < whole.len() + 1000, "{coding:?} {}", whole.len());
            }
        }
    }
}
