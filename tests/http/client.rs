//! A client that sends exactly what a test writes, and shows exactly what comes back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::rig::DEADLINE;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The lengths of the chunks, where the body came in such.
    pub chunks: Vec<usize>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice");
        value
    }

    /// The body of a JSON answer.
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The data of a good answer.
    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        let mut json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        json["data"].take()
    }

    /// The details of an answer that says what is wrong, whose entries all repeat its status.
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

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
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

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("cut off: {line:?}")).to_owned()
    }

    /// Reads an answer but for its body.
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

    /// Reads the body that belongs to an answer's head.
    pub fn body(&mut self, answer: &mut Answer) {
        if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).unwrap();
            answer.body = body;
            return;
        }
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        loop {
            let length = usize::from_str_radix(&self.line(), 16).unwrap();
            let from = answer.body.len();
            answer.body.resize(from + length, 0);
            self.stream.read_exact(&mut answer.body[from..]).unwrap();
            assert_eq!(self.line(), "");
            if length == 0 {
                return;
            }
            answer.chunks.push(length);
        }
    }

    /// Reads a whole answer.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        self.body(&mut answer);
        answer
    }

    /// Whether the server ends the connection now, having sent nothing more.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}
