//! Compression of captured output as it arrives, and decompression.
//!
//! Each direction takes a few megabytes of memory at most, for any size of output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::Held;
use crate::spec::Compression;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;
/// Brotli at a speed near that of the others, with a window of 1 MiB.
const BROTLI_QUALITY: u32 = 5;
const BROTLI_WINDOW: u32 = 20;
/// Bytes per read or compression step.
const BUFFER: usize = 64 * 1024;

/// A file that is appended to, with the first error of writing. Not every encoder reports an error
/// at its end.
struct Stored {
    file: File,
    length: u64,
    failed: Option<io::Error>,
}

impl Write for Stored {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            Ok(n) => {
                self.length += n as u64;
                Ok(n)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.failed.get_or_insert_with(|| io::Error::from(error.kind()));
                }
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses into a file.
pub(super) struct Encoder(Kind);

enum Kind {
    Zstd(zstd::stream::write::Encoder<'static, Stored>),
    Gzip(flate2::write::GzEncoder<Stored>),
    Brotli(Box<brotli::CompressorWriter<Stored>>),
}

impl Encoder {
    /// Begins a stream in an empty file.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn new(compression: Compression, file: File) -> io::Result<Encoder> {
        let stored = Stored { file, length: 0, failed: None };
        Ok(Encoder(match compression {
            Compression::Zstd => Kind::Zstd(zstd::stream::write::Encoder::new(stored, ZSTD_LEVEL)?),
            Compression::Gzip => {
                Kind::Gzip(flate2::write::GzEncoder::new(stored, flate2::Compression::default()))
            }
            Compression::Brotli => Kind::Brotli(Box::new(brotli::CompressorWriter::new(
                stored,
                BUFFER,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
        }))
    }

    /// Compresses the next bytes.
    ///
    /// # Errors
    /// The OS error of storing.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer().write_all(bytes)
    }

    /// Flushes all bytes so far; returns the number of stored bytes.
    ///
    /// # Errors
    /// The OS error of storing.
    pub(super) fn flush(&mut self) -> io::Result<u64> {
        self.writer().flush()?;
        Ok(self.stored().length)
    }

    /// Ends the stream; returns the number of stored bytes.
    ///
    /// # Errors
    /// The OS error of storing.
    pub(super) fn finish(self) -> io::Result<u64> {
        let stored = match self.0 {
            Kind::Zstd(encoder) => encoder.finish()?,
            Kind::Gzip(encoder) => encoder.finish()?,
            Kind::Brotli(encoder) => encoder.into_inner(),
        };
        stored.failed.map_or(Ok(stored.length), Err)
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.0 {
            Kind::Zstd(encoder) => encoder,
            Kind::Gzip(encoder) => encoder,
            Kind::Brotli(encoder) => encoder,
        }
    }

    fn stored(&self) -> &Stored {
        match &self.0 {
            Kind::Zstd(encoder) => encoder.get_ref(),
            Kind::Gzip(encoder) => encoder.get_ref(),
            Kind::Brotli(encoder) => encoder.get_ref(),
        }
    }
}

/// The first bytes of a file, read at a position of its own.
struct Beginning {
    held: Arc<Held>,
    at: u64,
    end: u64,
}

impl Read for Beginning {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = (self.end - self.at).min(buf.len() as u64) as usize;
        let n = self.held.data().read_at(buf.get_mut(..room).unwrap_or_default(), self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// A decoder of compressed output, from its beginning.
pub(super) struct Decoder {
    source: Box<dyn Read + Send>,
    at: u64,
}

impl Decoder {
    /// A decoder of the first `stored` bytes of a file.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn new(
        compression: Compression,
        held: Arc<Held>,
        stored: u64,
    ) -> io::Result<Decoder> {
        let beginning = Beginning { held, at: 0, end: stored };
        let source: Box<dyn Read + Send> = match compression {
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(beginning)?),
            Compression::Gzip => Box::new(flate2::read::GzDecoder::new(beginning)),
            Compression::Brotli => Box::new(brotli::Decompressor::new(beginning, BUFFER)),
        };
        Ok(Decoder { source, at: 0 })
    }

    /// The number of bytes read so far.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Reads the next bytes.
    ///
    /// # Errors
    /// The OS error of reading, or invalid compressed data.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buf)?;
        self.at += n as u64;
        Ok(n)
    }

    /// Skips forward to `offset`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let mut scratch = vec![0; BUFFER];
        while self.at < offset {
            let room = (offset - self.at).min(BUFFER as u64) as usize;
            if self.read(scratch.get_mut(..room).unwrap_or_default())? == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}
