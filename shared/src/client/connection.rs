//! The two tasks of a connection: one sends what was said since it last sent, one hands out what comes.
//!
//! Both leave what they are in the middle of where others find it: while code that blocks keeps the runtime from
//! polling them, [`Shared::look_after`] does their work from another thread.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};

use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};

use super::ClientError;
use crate::protocol::frame::{self, GREETING_BYTES, MAGIC};
use crate::protocol::{Event, Notice, Order, Outgoing, PROTOCOL_VERSION, Refused, Reply, Request};

/// What the tasks and all clones of a client share.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    said: Notify,
    input: Mutex<Input>,
    output: Mutex<Output>,
    orders: std::sync::OnceLock<Ordered>,
}

/// At least so much is received at once, if there is so much, bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// What came and was not handed out yet.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    greeted: bool,
}

/// What was taken to be sent.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

/// What is done with an order, where orders come; `None` is the end of the connection.
pub(super) type Ordered = Box<dyn Fn(Option<Order>) + Send + Sync>;

/// What is done with the answer to a request, on whichever thread hears it.
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
}

#[derive(Clone, Debug)]
enum End {
    Lost(String),
    Version(u16),
}

impl End {
    fn closed() -> Self {
        Self::Lost("it was closed".to_owned())
    }

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
    /// Those of a new connection: the greeting waits to be sent.
    pub(super) fn greeting() -> Self {
        let shared = Self::default();
        shared.lock().unsent.extend_from_slice(&frame::greeting());
        shared
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes a request to be sent, and what is done with its answer.
    pub(super) fn ask(&self, number: u64, request: Request, heard: Heard) -> Result<(), ClientError> {
        let mut state = self.lock();
        state.say(number, request)?;
        state.unanswered.insert(number, heard);
        Ok(())
    }

    /// Takes a request to be sent whose answer is dropped.
    #[cfg(feature = "worker")]
    pub(super) fn tell(&self, number: u64, request: Request) -> Result<(), ClientError> {
        self.lock().say(number, request)
    }

    /// How much waits to be sent, bytes.
    pub(super) fn waiting(&self) -> usize {
        self.lock().unsent.len()
    }

    /// Lets the task send what waits, with what is said until it does.
    pub(super) fn send_soon(&self) {
        self.said.notify_one();
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

    /// Says what is done with orders, whichever thread hears them. Once, and before the daemon has a reason to
    /// send any.
    #[cfg(feature = "worker")]
    pub(super) fn on_orders(&self, ordered: Ordered) {
        let first = self.orders.set(ordered);
        debug_assert!(first.is_ok(), "orders are taken once");
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
        drop(state);
        for (_, heard) in waiting {
            heard(Err(why.error()));
        }
        self.said.notify_one();
        if let Some(ordered) = self.orders.get() {
            ordered(None);
        }
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
            Outgoing::Notice(Notice::Order(order)) => {
                drop(state);
                if let Some(ordered) = self.orders.get() {
                    ordered(Some(order));
                }
            }
        }
    }

    /// Takes what was said since the last time, if all before it was sent. Says whether there is something to
    /// send, and whether nothing more will be.
    fn refill(&self, output: &mut Output) -> (bool, bool) {
        let mut state = self.lock();
        if output.sent == output.bytes.len() {
            output.bytes = std::mem::take(&mut state.unsent);
            output.sent = 0;
        }
        (output.sent < output.bytes.len(), state.finished || state.ended.is_some())
    }

    /// Hands out what has come as a whole.
    fn hand_out(&self, input: &mut Input) -> Result<(), End> {
        let mut start = 0;
        if !input.greeted {
            let Some(greeting) = input.bytes.first_chunk::<GREETING_BYTES>() else { return Ok(()) };
            if greeting[..4] != MAGIC {
                return Err(End::Lost("what answers there is not ibidd".to_owned()));
            }
            let daemon = u16::from_be_bytes([greeting[4], greeting[5]]);
            if daemon != PROTOCOL_VERSION {
                return Err(End::Version(daemon));
            }
            input.greeted = true;
            start = GREETING_BYTES;
        }
        let malformed = |error: frame::FrameError| End::Lost(error.to_string());
        while let Some(length) = frame::length(&input.bytes[start..]).map_err(malformed)?
            && let Some(body) = input.bytes.get(start + 4..start + 4 + length)
        {
            self.hear(frame::read(body).map_err(malformed)?);
            start += 4 + length;
        }
        input.bytes.drain(..start);
        Ok(())
    }

    /// Sends and receives what can be right now, in place of the tasks, unless they are at it.
    #[cfg(feature = "worker")]
    pub(super) fn look_after(&self, stream: &Stream) {
        use rustix::net::{RecvFlags, recv};
        let Stream::UdSocket(socket) = stream;
        if let Ok(mut input) = self.input.try_lock() {
            input.bytes.reserve(BUFFER_BYTES);
            let received = recv(socket, rustix::buffer::spare_capacity(&mut input.bytes), RecvFlags::DONTWAIT);
            let ended = match received {
                Ok((0, _)) => Err(End::closed()),
                Ok(_) => self.hand_out(&mut input),
                // The task hears of what is wrong, if something is.
                Err(_) => Ok(()),
            };
            if let Err(why) = ended {
                self.end(&why);
            }
        }
        self.push(stream);
    }

    /// Sends what can be sent without waiting; the task sends the rest.
    pub(super) fn push(&self, stream: &Stream) {
        use rustix::net::{SendFlags, send};
        let Stream::UdSocket(socket) = stream;
        if let Ok(mut output) = self.output.try_lock() {
            if !self.refill(&mut output).0 {
                return;
            }
            // The task hears of what is wrong, if something is.
            if let Ok(sent) = send(socket, &output.bytes[output.sent..], SendFlags::DONTWAIT) {
                output.sent += sent;
                if output.sent == output.bytes.len() {
                    return;
                }
            }
        }
        self.send_soon();
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

/// Sends all that is said, as much at once as there is.
pub(super) async fn send_all(shared: Arc<Shared>, to: Arc<Stream>) {
    loop {
        let sent = std::future::poll_fn(|context| {
            let mut output = lock(&shared.output);
            loop {
                let (some, last) = shared.refill(&mut output);
                if !some {
                    return Poll::Ready(Ok(last));
                }
                let (from, mut to) = (output.sent, &*to);
                match ready!(pin!(to.write(&output.bytes[from..])).poll(context)) {
                    Ok(sent) if sent > 0 => output.sent += sent,
                    Ok(_) => return Poll::Ready(Err(End::closed())),
                    Err(error) => return Poll::Ready(Err(End::Lost(error.to_string()))),
                }
            }
        });
        match sent.await {
            Ok(true) => return,
            Ok(false) => {}
            Err(why) => return shared.end(&why),
        }
        shared.said.notified().await;
        // What is said at the same time goes with it.
        tokio::task::yield_now().await;
    }
}

/// Hands out what comes until the connection ends.
pub(super) async fn receive_all(shared: Arc<Shared>, from: Arc<Stream>) {
    let ended = std::future::poll_fn(|context| {
        loop {
            let mut input = lock(&shared.input);
            input.bytes.reserve(BUFFER_BYTES);
            let mut from = &*from;
            let read = ready!(pin!(from.read_buf(&mut input.bytes)).poll(context));
            let heard = match read {
                Ok(0) => Err(End::closed()),
                Ok(_) => shared.hand_out(&mut input),
                Err(error) => Err(End::Lost(error.to_string())),
            };
            if let Err(why) = heard {
                return Poll::Ready(why);
            }
        }
    });
    let why = ended.await;
    shared.end(&why);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
