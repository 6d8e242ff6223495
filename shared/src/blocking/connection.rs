//! One connection, in postcard frames.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use interprocess::local_socket::traits::Stream as _;
use interprocess::local_socket::{GenericFilePath, Stream, ToFsName};

use super::ClientError;
use crate::protocol::frame::{self, GREETING_BYTES, MAGIC};
use crate::protocol::{Call, Notice, Outgoing, PROTOCOL_VERSION, Request};

/// A connection that asks and waits for the answer.
pub struct Client {
    sender: Sender,
    listener: Listener,
    next: u64,
    notices: Vec<Notice>,
}

/// The half of a connection that sends.
#[derive(Clone)]
pub struct Sender {
    stream: Arc<Stream>,
    /// The greeting goes with the first request, which saves waiting for the other side's.
    greeted: Arc<AtomicBool>,
}

/// The half of a connection that receives.
pub struct Listener {
    stream: Arc<Stream>,
    buffer: Vec<u8>,
    start: usize,
    /// The other side's greeting has been read.
    greeted: bool,
}

fn lost(error: &std::io::Error) -> ClientError {
    ClientError::Lost(error.to_string())
}

impl Client {
    /// Connects to a daemon that runs.
    ///
    /// # Errors
    /// Where none listens. Whether it speaks the same version is known with its first answer.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let name = socket.to_fs_name::<GenericFilePath>();
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NoDaemon(socket.to_owned()),
            _ => ClientError::Connect { path: socket.to_owned(), source },
        };
        let stream = Arc::new(Stream::connect(name.map_err(failed)?).map_err(failed)?);
        let sender = Sender { stream: stream.clone(), greeted: Arc::new(AtomicBool::new(false)) };
        let listener = Listener { stream, buffer: Vec::new(), start: 0, greeted: false };
        Ok(Self { sender, listener, next: 1, notices: Vec::new() })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Where the daemon refuses or the connection is lost.
    pub fn call<C: Call>(&mut self, call: C) -> Result<C::Reply, ClientError> {
        let id = self.next;
        self.next += 1;
        self.sender.send(id, call.into_request())?;
        loop {
            match self.listener.receive()? {
                Outgoing::Reply(answered, reply) if answered == id => {
                    return C::from_reply(reply?)
                        .ok_or_else(|| ClientError::Lost("the daemon answered something else".to_owned()));
                }
                Outgoing::Reply(..) => {}
                Outgoing::Notice(notice) => self.notices.push(notice),
            }
        }
    }

    /// The next thing that the daemon says without being asked.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub fn notice(&mut self) -> Result<Notice, ClientError> {
        if !self.notices.is_empty() {
            return Ok(self.notices.remove(0));
        }
        loop {
            if let Outgoing::Notice(notice) = self.listener.receive()? {
                return Ok(notice);
            }
        }
    }

    /// The two halves, for use on two threads. Requests sent so far are answered.
    #[must_use]
    pub fn split(self) -> (Sender, Listener) {
        (self.sender, self.listener)
    }
}

impl Sender {
    /// Sends a request under a number of the caller's.
    ///
    /// # Errors
    /// Where it is too long or the connection is lost.
    pub fn send(&self, id: u64, request: Request) -> Result<(), ClientError> {
        let mut out = Vec::new();
        if !self.greeted.swap(true, Ordering::Relaxed) {
            out.extend_from_slice(&frame::greeting());
        }
        frame::write(&mut out, &(id, request))
            .map_err(|error| crate::protocol::Refused::new("too_large", error.to_string()))?;
        (&*self.stream).write_all(&out).map_err(|error| lost(&error))
    }
}

impl Listener {
    fn check_greeting(&mut self) -> Result<(), ClientError> {
        let daemon = u16::from_be_bytes([self.buffer[4], self.buffer[5]]);
        if self.buffer[..4] != MAGIC {
            return Err(ClientError::Lost("what answers there is not ibidd".to_owned()));
        }
        if daemon != PROTOCOL_VERSION {
            return Err(ClientError::Version { daemon, own: PROTOCOL_VERSION });
        }
        self.greeted = true;
        self.start = GREETING_BYTES;
        Ok(())
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// Where the connection is lost or what comes cannot be read.
    pub fn receive(&mut self) -> Result<Outgoing, ClientError> {
        loop {
            if !self.greeted && self.buffer.len() >= GREETING_BYTES {
                self.check_greeting()?;
            }
            let waiting = if self.greeted { &self.buffer[self.start..] } else { &[] };
            let malformed = |error: frame::FrameError| ClientError::Lost(error.to_string());
            if let Some(length) = frame::length(waiting).map_err(malformed)?
                && waiting.len() >= 4 + length
            {
                let message = frame::read(&waiting[4..4 + length]).map_err(malformed)?;
                self.start += 4 + length;
                return Ok(message);
            }
            if self.greeted {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
            let mut chunk = [0; 64 * 1024];
            match (&*self.stream).read(&mut chunk) {
                Ok(0) => return Err(ClientError::Lost("it was closed".to_owned())),
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }
}
