//! Responses of a scheduler, or of a gateway before it, to the request for a WebSocket.

use procstar::net::dial::{Dial, DialError};
use procstar::net::socket::Link;
use tokio::io::AsyncWriteExt;

use super::{dialer, message};
use crate::mock_server::RawServer;
use crate::support::wait::soon;

/// Connects to a server that responds with `before` and then, if `accepts`, accepts the WebSocket.
async fn attempt(before: &str, accepts: bool) -> Result<Link, DialError> {
    let server = RawServer::start().await;
    let dial = dialer("127.0.0.1", server.addr.port(), &server.identity).dial();
    let serve = async {
        let (mut stream, answer) = server.request().await;
        let rest = if accepts { [&answer[..], b"\x82\x02hi"].concat() } else { Vec::new() };
        stream.write_all(&[before.as_bytes(), &rest].concat()).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let (link, stream) = soon(async { tokio::join!(dial, serve) }).await;
    if let Ok(mut link) = link {
        let text = message(&mut link).await;
        assert_eq!(text, "hi");
        drop(stream);
        return Ok(link);
    }
    link
}

#[actix_rt::test]
async fn interim_responses_are_ignored() {
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        assert!(attempt(interim, true).await.is_ok(), "{interim}");
    }
}

#[actix_rt::test]
async fn a_refusal_is_reported_with_its_status_and_its_meaning() {
    for (answer, expected) in [
        (
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nsorry",
            "server answered 503 Service Unavailable; it, or a gateway before it, is not ready",
        ),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 502 Bad Gateway\r\n\r\n", "502 Bad Gateway; "),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", "401 Unauthorized; access refused"),
        (
            "HTTP/1.1 301 Moved Permanently\r\nlocation: https://else.test/\r\n\r\n",
            "301 Moved Permanently, a redirect to https://else.test/",
        ),
        ("HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found; it is not a websocket server"),
    ] {
        let error = attempt(answer, false).await.unwrap_err();
        let DialError::Status { .. } = &error else { panic!("{error}") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[actix_rt::test]
async fn a_response_with_endless_headers_is_an_error() {
    let header = format!("x: {}\r\n", "y".repeat(1000));
    let error = attempt(&format!("HTTP/1.1 200 OK\r\n{}", header.repeat(80)), false).await;
    assert!(matches!(error, Err(DialError::Upgrade { .. })), "{error:?}");
}
