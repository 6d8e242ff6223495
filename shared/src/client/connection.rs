//! The two tasks of a connection: one sends what was said since it last sent, one hands out what comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{ClientError, Pending};
use crate::protocol::frame::{self, GREETING_BYTES, MAGIC};
use crate::protocol::{Event, Notice, Order, Outgoing, PROTOCOL_VERSION, Refused, Reply, Request};

/// What the tasks and all clones of a client share.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    said: Notify,
}

/// What is done with the answer to a request, on the task that receives.
pub(super) type Heard = Box<dyn FnOnce(Result<Outgoing, ClientError>) + Send>;

#[derive(Default)]
struct State {
    /// What waits to be sent.
    unsent: Vec<u8>,
    /// Nothing more will be said.
    finished: bool,
    /// Why the connection has ended, in words.
    ended: Option<End>,
    unanswered: HashMap<u64, Heard>,
    subscriptions: HashMap<u64, mpsc::UnboundedSender<Event>>,
    /// Subscriptions that were answered and that nobody has taken yet.
    new: HashMap<u64, mpsc::UnboundedReceiver<Event>>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    /// Orders that came before anybody listened.
    early_orders: Vec<Order>,
}

#[derive(Clone, Debug)]
enum End {
    Lost(String),
    Version(u16),
}

impl End {
    fn error(&self) -> ClientError {
        match self {
            Self::Lost(why) => ClientError::Lost(why.clone()),
            Self::Version(daemon) => ClientError::Version { daemon: *daemon, own: PROTOCOL_VERSION },
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<connection>")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and keeps a place for its answer.
    pub(super) fn ask(&self, number: u64, request: Request) -> Result<Pending, ClientError> {
        let (sender, receiver) = oneshot::channel();
        // Whoever asked may have gone away.
        self.ask_then(number, request, Box::new(move |answer| drop(sender.send(answer))))?;
        Ok(receiver)
    }

    /// Sends a request and says what is done with its answer.
    pub(super) fn ask_then(&self, number: u64, request: Request, heard: Heard) -> Result<(), ClientError> {
        let mut state = self.lock();
        state.say(number, request)?;
        state.unanswered.insert(number, heard);
        drop(state);
        self.said.notify_one();
        Ok(())
    }

    /// Sends a request whose answer is dropped.
    #[cfg(feature = "worker")]
    pub(super) fn tell(&self, number: u64, request: Request) -> Result<(), ClientError> {
        self.lock().say(number, request)?;
        self.said.notify_one();
        Ok(())
    }

    pub(super) fn finish_sending(&self) {
        self.lock().finished = true;
        self.said.notify_one();
    }

    pub(super) fn events_of(&self, subscription: u64) -> mpsc::UnboundedReceiver<Event> {
        // Where the connection was lost meanwhile there is none, and nothing comes.
        self.lock().new.remove(&subscription).unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    pub(super) fn forget(&self, subscription: u64) {
        self.lock().subscriptions.remove(&subscription);
    }

    pub(super) fn orders(&self) -> mpsc::UnboundedReceiver<Order> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.lock();
        for order in state.early_orders.drain(..) {
            // The receiver is right here.
            let _heard = sender.send(order);
        }
        state.orders = state.ended.is_none().then_some(sender);
        receiver
    }

    /// Why the connection has ended, if it has.
    pub(super) fn ended(&self) -> Option<ClientError> {
        self.lock().ended.as_ref().map(End::error)
    }

    fn end(&self, why: &End) {
        let mut state = self.lock();
        state.ended.get_or_insert_with(|| why.clone());
        let waiting: Vec<_> = state.unanswered.drain().collect();
        state.subscriptions.clear();
        state.orders = None;
        drop(state);
        for (_, heard) in waiting {
            heard(Err(why.error()));
        }
        self.said.notify_one();
    }

    fn hear(&self, outgoing: Outgoing) {
        let mut state = self.lock();
        match outgoing {
            Outgoing::Reply(number, ref reply) => {
                if let Ok(Reply::Subscribe(subscribed)) = reply {
                    // Its first event may come right behind.
                    let (sender, receiver) = mpsc::unbounded_channel();
                    state.subscriptions.insert(subscribed.subscription, sender);
                    state.new.insert(subscribed.subscription, receiver);
                }
                if let Some(waiting) = state.unanswered.remove(&number) {
                    drop(state);
                    waiting(Ok(outgoing));
                }
            }
            Outgoing::Notice(Notice::Event(event)) => {
                if let Some(listener) = state.subscriptions.get(&event.subscription) {
                    // Nobody listens any more, and the daemon will hear of that.
                    let _gone = listener.send(event);
                }
            }
            Outgoing::Notice(Notice::Order(order)) => match &state.orders {
                Some(orders) => {
                    // A worker that is gone takes no more orders.
                    let _gone = orders.send(order);
                }
                None => state.early_orders.push(order),
            },
        }
    }
}

impl State {
    fn say(&mut self, number: u64, request: Request) -> Result<(), ClientError> {
        if let Some(end) = &self.ended {
            return Err(end.error());
        }
        let written = frame::write(&mut self.unsent, &(number, request));
        written.map_err(|error| ClientError::Refused(Refused::new("too_large", error.to_string())))
    }
}

/// Sends the greeting, and then all that is said, as much at once as there is.
pub(super) async fn send_all(shared: Arc<Shared>, to: Arc<Stream>) {
    let mut to = &*to;
    if to.write_all(&frame::greeting()).await.is_err() {
        return shared.end(&End::Lost("it was closed".to_owned()));
    }
    loop {
        let (bytes, last) = {
            let mut state = shared.lock();
            (std::mem::take(&mut state.unsent), state.finished || state.ended.is_some())
        };
        if bytes.is_empty() {
            if last {
                return;
            }
            shared.said.notified().await;
        } else if let Err(error) = to.write_all(&bytes).await {
            return shared.end(&End::Lost(error.to_string()));
        }
    }
}

/// Hands out what comes until the connection ends.
pub(super) async fn receive_all(shared: Arc<Shared>, from: Arc<Stream>) {
    let end = match receive(&shared, &from).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    shared.end(&end);
}

async fn receive(shared: &Shared, mut from: &Stream) -> Result<std::convert::Infallible, End> {
    let lost = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => End::Lost("it was closed".to_owned()),
        _ => End::Lost(error.to_string()),
    };
    let malformed = |error: frame::FrameError| End::Lost(error.to_string());
    let mut greeting = [0; GREETING_BYTES];
    from.read_exact(&mut greeting).await.map_err(lost)?;
    if greeting[..4] != MAGIC {
        return Err(End::Lost("what answers there is not ibidd".to_owned()));
    }
    let daemon = u16::from_be_bytes([greeting[4], greeting[5]]);
    if daemon != PROTOCOL_VERSION {
        return Err(End::Version(daemon));
    }
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        if from.read_buf(&mut buffer).await.map_err(lost)? == 0 {
            return Err(End::Lost("it was closed".to_owned()));
        }
        let mut start = 0;
        while let Some(length) = frame::length(&buffer[start..]).map_err(malformed)?
            && let Some(body) = buffer.get(start + 4..start + 4 + length)
        {
            shared.hear(frame::read(body).map_err(malformed)?);
            start += 4 + length;
        }
        buffer.drain(..start);
    }
}
