//! A client as any script would write it: JSON lines over a Unix socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// One connection.
pub struct JsonClient {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    next: u64,
}

impl JsonClient {
    /// Connects.
    ///
    /// # Panics
    /// Where nobody listens.
    #[must_use]
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap_or_else(|error| panic!("{error}"));
        let lines = BufReader::new(stream.try_clone().unwrap_or_else(|error| panic!("{error}")));
        Self { stream, lines, next: 1 }
    }

    /// Sends bytes as they are. Says whether they could be sent.
    pub fn send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next line; `None` where the connection has ended.
    pub fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(read) if read > 0 => serde_json::from_str(&line).ok(),
            _ => None,
        }
    }

    /// Asks, and returns the whole answer. Notifications that come before it are dropped.
    ///
    /// # Panics
    /// Where the connection ends.
    pub fn ask(&mut self, method: &str, params: &Value) -> Value {
        let id = self.next;
        self.next += 1;
        let line = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
        assert!(self.send_raw(format!("{line}\n").as_bytes()), "the connection has ended");
        loop {
            let Some(answer) = self.line() else { panic!("no answer to {method}") };
            if answer["id"] == id {
                return answer;
            }
        }
    }

    /// Asks for something that must be granted.
    ///
    /// # Panics
    /// Where it is refused.
    pub fn result(&mut self, method: &str, params: &Value) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Asks for something that must be refused, and returns the kind.
    ///
    /// # Panics
    /// Where it is granted.
    pub fn refused(&mut self, method: &str, params: &Value) -> String {
        let answer = self.ask(method, params);
        assert!(!answer["error"].is_null(), "{method} was granted: {answer}");
        answer["error"]["data"]["kind"].as_str().unwrap_or_default().to_owned()
    }
}
