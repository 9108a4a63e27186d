//! A client that sends the exact bytes of a test, and returns the exact response.

use crate::support::wait::DEADLINE;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The lengths of the chunks of a chunked body.
    pub chunks: Vec<usize>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice");
        value
    }

    /// The body of a JSON response.
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The `data` of a successful response.
    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        let mut json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["data"].take()
    }

    /// The details of an error response.
    pub fn problem(&self, status: u16) -> Vec<String> {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!((&problem["type"], &problem["status"]), (&"about:blank".into(), &status.into()));
        let errors = problem["errors"].as_array().unwrap();
        let detail = |error: &Value| {
            assert_eq!(error["status"], status.to_string());
            error["detail"].as_str().unwrap().to_owned()
        };
        let details: Vec<_> = errors.iter().map(detail).collect();
        assert_eq!(problem["detail"], details.join("; "));
        details
    }

    /// The details of a response with a list of errors, which all repeat its status.
    pub fn errors(&self, status: u16) -> Vec<String> {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        let detail = |error: &Value| {
            assert_eq!(error.as_object().unwrap().len(), 2, "{json}");
            assert_eq!(error["status"], status.to_string());
            error["detail"].as_str().unwrap().to_owned()
        };
        let details: Vec<_> = json["errors"].as_array().unwrap().iter().map(detail).collect();
        assert!(!details.is_empty());
        details
    }
}

/// The transport of a connection.
pub trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A connection.
pub struct Client {
    stream: BufReader<Box<dyn Stream>>,
    tcp: Option<TcpStream>,
}

/// Connects, with a deadline for each read and write.
pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = tcp(address);
        Client { tcp: Some(stream.try_clone().unwrap()), ..Client::over(stream) }
    }

    pub fn connect_unix(path: &Path) -> Client {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Client::over(stream)
    }

    /// A client over any stream, for example TLS.
    pub fn over(stream: impl Stream + 'static) -> Client {
        Client { stream: BufReader::new(Box::new(stream)), tcp: None }
    }

    /// Reads the next chunk of a chunked body; `None` at its end.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut chunk = vec![0; length];
        self.stream.read_exact(&mut chunk).unwrap();
        assert_eq!(self.line(), "");
        (length > 0).then_some(chunk)
    }

    /// Reads exactly `length` bytes.
    pub fn raw(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Sends bytes unchanged.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
        self.stream.get_mut().flush().unwrap();
    }

    /// Sends bytes, unless the connection has ended.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Whether the service closes the connection within this time.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        let mut tcp = self.tcp.as_ref().unwrap();
        tcp.set_read_timeout(Some(time)).unwrap();
        let read = tcp.read(&mut [0]);
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        match read {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// Sends a request with `Host: localhost` and these headers.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        self.send([text.as_bytes(), b"\r\n", body].concat());
    }

    /// Shuts down the sending direction.
    pub fn finish(&mut self) {
        self.tcp.as_ref().unwrap().shutdown(std::net::Shutdown::Write).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("cut off: {line:?}")).to_owned()
    }

    /// Reads the head of a response.
    pub fn head(&mut self) -> Answer {
        let status = self.line();
        let status = status.strip_prefix("HTTP/1.").unwrap()[2..5].parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return Answer { status, headers, body: Vec::new(), chunks: Vec::new() };
            }
            let (name, value) = line.split_once(": ").unwrap();
            headers.push((name.to_lowercase(), value.to_owned()));
        }
    }

    /// Reads the body of a response into it.
    pub fn body(&mut self, answer: &mut Answer) {
        if answer.status == 304 {
            return;
        }
        if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).unwrap();
            answer.body = body;
            return;
        }
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        while let Some(chunk) = self.chunk() {
            answer.chunks.push(chunk.len());
            answer.body.extend_from_slice(&chunk);
        }
    }

    /// Reads a whole response.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        self.body(&mut answer);
        answer
    }

    /// Whether no byte has arrived yet.
    pub fn is_silent(&mut self) -> bool {
        let tcp = self.tcp.as_ref().unwrap();
        tcp.set_nonblocking(true).unwrap();
        let silent = tcp.peek(&mut [0]).is_err();
        tcp.set_nonblocking(false).unwrap();
        silent
    }

    /// Whether the service closes the connection without another byte.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}
