//! A range of captured output as the source of a body.

use std::io;

use bytes::Bytes;

use super::body_stream::BodySource;
use crate::output::OutputRange;

impl BodySource for OutputRange {
    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        OutputRange::next_block(self)
    }
}
