//! Server-sent events, as they come.

use super::error::ClientError;
use super::transport::Answer;

/// The events of a response.
pub struct Events {
    answer: Answer,
    buffer: Vec<u8>,
}

impl Events {
    /// The events of `answer`.
    pub fn new(answer: Answer) -> Events {
        Events { answer, buffer: Vec::new() }
    }

    /// The data of the next event; `None` after the last.
    ///
    /// # Errors
    /// The stream breaks off.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            while let Some(block) = take_block(&mut self.buffer) {
                if let Some(data) = data(&block) {
                    return Ok(Some(data));
                }
            }
            match self.answer.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// The bytes before the next empty line.
fn take_block(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
    Some(buffer.drain(..end + 2).collect())
}

/// The data of an event; `None` for a comment.
fn data(block: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(block);
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_taken_apart() {
        let mut buffer = b": procstar\n\nid: 1\nevent: a\ndata: {\"x\":1}\n\nid: 2\nda".to_vec();
        assert_eq!(data(&take_block(&mut buffer).unwrap()), None);
        assert_eq!(data(&take_block(&mut buffer).unwrap()).as_deref(), Some("{\"x\":1}"));
        assert_eq!((take_block(&mut buffer), buffer.as_slice()), (None, &b"id: 2\nda"[..]));
    }
}
