//! The WebSocket upgrade by awc, on a stream that is connected already.

use std::{
    cell::Cell,
    future::{Ready, ready},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_rt::net::{ActixStream, Ready as Readiness, TcpStream};
use actix_tls::connect::{
    ConnectError, ConnectInfo, Connection, rustls_0_23::reexports::AsyncTlsStream,
};
use actix_web::dev::Service;
use awc::{BoxedSocket, Client, Connector, http::Uri};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial_error::DialError;

/// awc's own timeouts, 5 s unless set; the caller keeps the time, so they only have to be longer.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Asks the server at the other end of `stream` for a WebSocket at `/`; the stream after its
/// consent, and what it sent right behind that.
pub(super) async fn upgrade(
    authority: &str,
    stream: AsyncTlsStream<TcpStream>,
) -> Result<(BoxedSocket, Bytes), DialError> {
    let handover = Handover(Rc::new(Cell::new(Some(TlsIo(stream)))));
    let connector = Connector::new().connector(handover).timeout(NEVER);
    let client = Client::builder().connector(connector).disable_timeout().finish();
    // To awc the stream is plain: the TLS is in it.
    let (_, framed) = client
        .ws(format!("ws://{authority}/"))
        .connect()
        .await
        .map_err(|err| DialError::of_upgrade(authority.to_owned(), err))?;
    let parts = framed.into_parts();
    Ok((parts.io, parts.read_buf.freeze()))
}

/// A connector that hands out one stream, which was connected before.
#[derive(Clone)]
struct Handover(Rc<Cell<Option<TlsIo>>>);

impl Service<ConnectInfo<Uri>> for Handover {
    type Response = Connection<Uri, TlsIo>;
    type Error = ConnectError;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let stream = self.0.take().ok_or(ConnectError::Unresolved);
        ready(stream.map(|stream| Connection::new(info.request().clone(), stream)))
    }
}

/// A TLS stream in the form that awc takes from a connector.
#[derive(Debug)]
struct TlsIo(AsyncTlsStream<TcpStream>);

impl AsyncRead for TlsIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl ActixStream for TlsIo {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Readiness>> {
        ActixStream::poll_read_ready(self.0.get_ref().0, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Readiness>> {
        ActixStream::poll_write_ready(self.0.get_ref().0, cx)
    }
}
