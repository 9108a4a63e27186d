//! The WebSocket upgrade, on a connected stream.
//!
//! awc could do it, but it takes the first head for the last, even if that only announces another
//! (`103 Early Hints`), and it does not report why a server refuses.

use actix_http::ws::hash_key;
use base64_simd::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::answer::{Parsed, parse};
use super::dial_error::DialError;

/// The longest answer, interim heads included.
const LONGEST: usize = 64 * 1024;

/// Requests a WebSocket at `/` from the server at the other end of `stream`; returns the stream
/// after the acceptance, and the bytes that followed it.
pub(super) async fn upgrade<S>(authority: &str, mut stream: S) -> Result<(S, Bytes), DialError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match ask(authority, &mut stream).await {
        Ok(early) => Ok((stream, early)),
        Err(Failure::Refused(refusal)) => {
            Err(DialError::Status { target: authority.to_owned(), refusal })
        }
        Err(Failure::Bad(reason)) => {
            Err(DialError::Upgrade { target: authority.to_owned(), reason })
        }
    }
}

enum Failure {
    Refused(super::answer::Refusal),
    Bad(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Bad(match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset => {
                "the server closed the connection".to_owned()
            }
            _ => error.to_string(),
        })
    }
}

async fn ask<S>(authority: &str, stream: &mut S) -> Result<Bytes, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = STANDARD.encode_to_string(fastrand::u128(..).to_be_bytes());
    let host = without_zone(authority);
    let version = env!("CARGO_PKG_VERSION");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nUser-Agent: procstar/{version}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let accept = hash_key(key.as_bytes());
    let mut answer = BytesMut::new();
    let mut total = 0;
    loop {
        match parse(&answer, &accept) {
            Parsed::Switched(len) => {
                answer.advance(len);
                return Ok(answer.freeze());
            }
            Parsed::Interim(len) => answer.advance(len),
            Parsed::Refused(refusal) => return Err(Failure::Refused(refusal)),
            Parsed::Bad(reason) => return Err(Failure::Bad(reason)),
            Parsed::Partial if total >= LONGEST => {
                return Err(Failure::Bad("the server's answer is too long".to_owned()));
            }
            Parsed::Partial => match stream.read_buf(&mut answer).await? {
                0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                read => total += read,
            },
        }
    }
}

/// An address's zone is valid on this host only.
fn without_zone(authority: &str) -> String {
    match authority.split_once('%') {
        Some((address, rest)) => match rest.split_once(']') {
            Some((_, port)) => format!("{address}]{port}"),
            None => authority.to_owned(),
        },
        None => authority.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_not_sent() {
        for (authority, host) in [
            ("[fe80::1%2]:59789", "[fe80::1]:59789"),
            ("[::1]:1", "[::1]:1"),
            ("h.test:1", "h.test:1"),
        ] {
            assert_eq!(without_zone(authority), host);
        }
    }
}
