//! What is waiting to be sent on one connection, bounded.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ibid::protocol::{Outgoing, Refused, frame, json};
use tokio::sync::Notify;

use super::RequestId;
use super::load::{Load, Share};

/// A client that lets more than this pile up is cut off, bytes.
const OUTBOX_MAX_BYTES: usize = 64 * 1024 * 1024;

/// How messages are written on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON-RPC lines.
    Json,
    /// Postcard frames.
    Postcard,
}

/// Messages on their way to one client.
#[derive(Debug)]
pub struct Outbox {
    encoding: Encoding,
    bytes: RefCell<Vec<u8>>,
    /// Taken to be sent, bytes.
    taken: Cell<usize>,
    share: Share,
    wake: Notify,
    closed: Cell<bool>,
    /// Requests that have not been answered yet.
    unanswered: Cell<usize>,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub fn new(encoding: Encoding, load: Rc<Load>) -> Self {
        Self {
            encoding,
            bytes: RefCell::new(Vec::new()),
            taken: Cell::new(0),
            share: Share::new(load),
            wake: Notify::new(),
            closed: Cell::new(false),
            unanswered: Cell::new(0),
        }
    }

    /// A request has come that wants an answer.
    pub fn expect(&self) {
        self.unanswered.set(self.unanswered.get() + 1);
    }

    /// Whether every request has been answered.
    #[must_use]
    pub fn all_answered(&self) -> bool {
        self.unanswered.get() == 0
    }

    /// Adds a message; `id` names the request that it answers.
    pub fn push(&self, id: &RequestId, message: Outgoing) {
        if matches!(message, Outgoing::Reply(..)) && !matches!(id, RequestId::None) {
            self.unanswered.set(self.unanswered.get().saturating_sub(1));
        }
        if self.closed.get() {
            return;
        }
        let mut bytes = self.bytes.borrow_mut();
        match self.encoding {
            Encoding::Json => self.push_line(&mut bytes, id, &message),
            Encoding::Postcard => self.push_frame(&mut bytes, id, message),
        }
        let fits = self.share.set(self.taken.get() + bytes.len());
        if bytes.len() > OUTBOX_MAX_BYTES || !fits {
            // It does not read: nothing more is kept for it.
            *bytes = Vec::new();
            let _fits = self.share.set(self.taken.get());
            self.closed.set(true);
        }
        self.wake.notify_one();
    }

    fn push_line(&self, bytes: &mut Vec<u8>, id: &RequestId, message: &Outgoing) {
        let start = bytes.len();
        let id = match id {
            RequestId::Text(text) => Some(&**text),
            _ => None,
        };
        if id.is_none() && matches!(message, Outgoing::Reply(_, Ok(_))) {
            return;
        }
        if let Err(error) = json::write(bytes, id, message) {
            bytes.truncate(start);
            let refused = Refused::new("internal", format!("the answer has no JSON form: {error}"));
            if json::write(bytes, id, &Outgoing::Reply(0, Err(refused))).is_err() {
                bytes.truncate(start);
            }
        }
    }

    fn push_frame(&self, bytes: &mut Vec<u8>, id: &RequestId, message: Outgoing) {
        let number = match id {
            RequestId::Number(number) => *number,
            _ => 0,
        };
        let message = match message {
            Outgoing::Reply(_, reply) => Outgoing::Reply(number, reply),
            notice => notice,
        };
        if let Err(error) = frame::write(bytes, &message) {
            let refused = Refused::new("too_large", format!("the answer cannot be sent: {error}"));
            // A refusal is short: it fits.
            if frame::write(bytes, &Outgoing::Reply(number, Err(refused))).is_err() {
                self.closed.set(true);
            }
        }
    }

    /// Ends the connection once what is in here has been sent.
    pub fn close(&self) {
        self.closed.set(true);
        self.wake.notify_one();
    }

    /// Whether nothing more will be added.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// How much is waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// Whether nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.borrow().is_empty()
    }

    pub(super) fn take(&self) -> Vec<u8> {
        let bytes = std::mem::take(&mut *self.bytes.borrow_mut());
        self.taken.set(bytes.len());
        // Nothing has grown.
        let _fits = self.share.set(bytes.len());
        bytes
    }

    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }
}
