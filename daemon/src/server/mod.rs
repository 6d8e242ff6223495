//! HEARS AND TELLS: the socket, the connections on it, and what they are sent.

mod listen;
mod load;
mod outbox;
mod presence;
mod refusing;
mod session;

pub use listen::{BindError, Socket};
pub use load::Load;
pub use outbox::{Encoding, Outbox};
pub use presence::{Gone, Presence};
pub use refusing::refuse;
pub use session::serve;

use std::rc::Rc;

use ibid::model::Json;
use ibid::protocol::{Refused, Request};
use serde_json::value::RawValue;

/// Names a connection.
pub type SessionId = u64;

/// Whom to answer.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The connection.
    pub session: SessionId,
    /// The request's name on it.
    pub id: RequestId,
}

/// A request's name.
#[derive(Debug, Clone)]
pub enum RequestId {
    /// A frame's number.
    Number(u64),
    /// Any JSON.
    Text(Rc<RawValue>),
    /// A notification: nobody wants an answer.
    None,
}

impl RequestId {
    /// Whether a message means this request.
    #[must_use]
    pub fn is(&self, named: &Json) -> bool {
        match self {
            Self::Number(number) => named.as_str().parse() == Ok(*number),
            Self::Text(text) => named.as_str() == text.get(),
            Self::None => false,
        }
    }
}

/// What takes requests: the owner of the engine.
pub trait Handler {
    /// A connection begins; what is said to it goes through the outbox.
    fn connected(&self, outbox: Rc<Outbox>) -> SessionId;
    /// Resolves when it takes more requests: what it has taken is on the disk but for a bounded rest.
    fn room(&self) -> impl Future<Output = ()>;
    /// It asks for something.
    fn request(&self, ticket: Ticket, request: Result<Request, Refused>);
    /// It has ended.
    fn disconnected(&self, session: SessionId);
}
