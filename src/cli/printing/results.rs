//! Results as one JSON object, written as a stream: no result is held as a whole.

use std::io::{self, Write};
use std::sync::Arc;

use crate::cli::printing::writer::Counted;
use crate::report::{AsOf, ProcessRecord, ResultContext, ResultFormat, ResultStream};

/// Writes `{ID: result, ...}` to `out`, without a newline at the end.
///
/// # Errors
/// The OS error of reading a capture or of writing.
pub fn write_results(
    results: &[Arc<ProcessRecord>],
    context: &ResultContext,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut out = Counted(out);
    let mut piece = Vec::new();
    for (i, record) in results.iter().enumerate() {
        piece.push(if i == 0 { b'{' } else { b',' });
        serde_json::to_writer(&mut piece, &record.id)?;
        piece.push(b':');
        let mut stream = ResultStream::new(record, AsOf::Now, context, ResultFormat::Json)?;
        while stream.fill(&mut piece)? {
            out.write_all(&piece)?;
            piece.clear();
        }
        // Small results are collected, up to the capacity of a pipe.
        if piece.len() >= 32 * 1024 {
            out.write_all(&piece)?;
            piece.clear();
        }
    }
    piece.extend_from_slice(if results.is_empty() { b"{}" } else { b"}" });
    out.write_all(&piece)?;
    out.flush()
}
