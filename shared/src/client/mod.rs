//! The way to the daemon for async programs.
//!
//! A [`Client`] is one connection; its clones share it. Every method of the protocol is a type that
//! [`Client::call`] takes, and whose reply it returns: see [`crate::protocol`], and `PROTOCOL.md` for what
//! they do. Many calls can be on their way at once.
//!
//! ```no_run
//! # async fn example() -> Result<(), ibid::client::ClientError> {
//! use ibid::Client;
//! use ibid::protocol::{ListRuns, Subscribe, Topic};
//!
//! let client = Client::connect().await?;
//! let mut runs = client.subscribe(Topic::Runs { scope: None, limit: Some(20) }).await?;
//! while let Some(event) = runs.next().await {
//!     println!("{:?}", event?.body);
//! }
//! # Ok(())
//! # }
//! ```

mod connection;
mod subscription;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use interprocess::local_socket::traits::tokio::Stream as _;
use interprocess::local_socket::{GenericFilePath, ToFsName, tokio::Stream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

pub use crate::blocking::ClientError;
pub use subscription::Subscription;

#[cfg(feature = "worker")]
use crate::model::{ExecutionId, Json};
use crate::paths::{Paths, ProcessEnvironment};
use crate::protocol::{Call, Outgoing, Reply, Subscribe, Topic};
#[cfg(feature = "worker")]
use crate::protocol::{ExecutionGiveUp, Order};
use connection::{Shared, receive_all, send_all};

/// One connection to the daemon. Clones share it; it is closed when the last is dropped and everything said
/// was sent.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    next: AtomicU64,
    receiving: AbortHandle,
    /// Closed when the connection has ended, however many hold the client.
    stream: Weak<Stream>,
}

/// So much that waits to be sent is sent by whoever has said it, bytes.
#[cfg(feature = "worker")]
const MUCH_BYTES: usize = 4096;

/// Whoever says things without end waits while more than this waits to be sent, bytes.
#[cfg(feature = "worker")]
const BEHIND_MAX_BYTES: usize = 4 * 1024 * 1024;

impl Inner {
    /// Sends what was said: right now where that is at least so much, else with what others say meanwhile.
    fn send(&self, now_from: usize) {
        match self.stream.upgrade() {
            Some(stream) if self.shared.waiting() >= now_from => self.shared.push(&stream),
            _ => self.shared.send_soon(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.receiving.abort();
        self.shared.finish_sending();
    }
}

impl Client {
    /// Connects to the daemon of this user, and starts one if none answers.
    ///
    /// Where it is looked for is said in `PROTOCOL.md`: `$IBID_SOCKET`, else the usual places.
    ///
    /// # Errors
    /// Where none answers and none can be started.
    pub async fn connect() -> Result<Self, ClientError> {
        let paths = Paths::find(&ProcessEnvironment).and_then(Paths::checked).map_err(ClientError::Start)?;
        match Self::connect_to(&paths.socket).await {
            Err(ClientError::NoDaemon(_)) => {
                let socket = paths.socket.clone();
                let started = tokio::task::spawn_blocking(move || crate::blocking::connect_or_start(&paths)).await;
                started.map_err(|error| ClientError::Start(error.to_string()))??;
                Self::connect_to(&socket).await
            }
            connected => connected,
        }
    }

    /// Connects to a daemon that runs.
    ///
    /// # Errors
    /// Where none listens on the socket. Whether it speaks the same version is known with its first answer.
    pub async fn connect_to(socket: &Path) -> Result<Self, ClientError> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(socket.to_owned())
            }
            _ => ClientError::Connect { path: socket.to_owned(), source },
        };
        let name = socket.to_fs_name::<GenericFilePath>().map_err(failed)?;
        let stream = Arc::new(Stream::connect(name).await.map_err(failed)?);
        let shared = Arc::new(Shared::greeting());
        let weak = Arc::downgrade(&stream);
        tokio::spawn(send_all(shared.clone(), stream.clone()));
        let receiving = tokio::spawn(receive_all(shared.clone(), stream)).abort_handle();
        let inner = Inner { shared, next: AtomicU64::new(1), receiving, stream: weak };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Asks, and waits for the answer.
    ///
    /// ```no_run
    /// # async fn example(client: ibid::Client) -> Result<(), ibid::client::ClientError> {
    /// use ibid::model::Json;
    /// use ibid::protocol::{GetResult, Scope, Submit};
    ///
    /// let submit = Submit { arguments: vec![Json::string("monday")], ..Submit::new(Scope::default(), "news/site") };
    /// let submitted = client.call(submit).await?;
    /// let outcome = client.call(GetResult { id: submitted.step.into(), wait: true, caller: None }).await?;
    /// println!("{} {:?}", submitted.run, outcome.value);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Where the daemon refuses or the connection is lost.
    pub async fn call<C: Call>(&self, call: C) -> Result<C::Reply, ClientError> {
        answer::<C>(self.begin(call)?.1).await
    }

    /// Asks for something that an execution waits for. Where this is dropped before, the daemon is told that it
    /// does not wait any more.
    #[cfg(feature = "worker")]
    pub(crate) async fn wait<C: Call>(&self, execution: ExecutionId, call: C) -> Result<C::Reply, ClientError> {
        let (number, pending) = self.begin(call)?;
        let mut waiting = Waiting { client: self, execution, number: Some(number) };
        let answer = answer::<C>(pending).await;
        waiting.number = None;
        answer
    }

    /// Asks, and returns before there is an answer: the request's number, and where the answer will be.
    pub(crate) fn begin<C: Call>(&self, call: C) -> Result<(u64, Pending), ClientError> {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        // Whoever asked may have gone away.
        let heard = Box::new(move |answer| drop(sender.send(answer)));
        self.inner.shared.ask(number, call.into_request(), heard)?;
        self.inner.send(0);
        Ok((number, receiver))
    }

    /// Asks, and says what is done with the answer, on whichever thread hears it.
    #[cfg(feature = "worker")]
    pub(crate) fn begin_then<C: Call>(
        &self,
        call: C,
        heard: impl FnOnce(Result<C::Reply, ClientError>) + Send + 'static,
    ) -> Result<(), ClientError> {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let heard = Box::new(move |answer| heard(read_answer::<C>(answer)));
        self.inner.shared.ask(number, call.into_request(), heard)?;
        self.inner.send(MUCH_BYTES);
        Ok(())
    }

    /// Says something whose answer nobody waits for.
    #[cfg(feature = "worker")]
    pub(crate) fn tell<C: Call>(&self, call: C) -> Result<(), ClientError> {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner.shared.tell(number, call.into_request())?;
        self.inner.send(MUCH_BYTES);
        Ok(())
    }

    /// Waits, on this thread, while the daemon is far behind with what was said.
    #[cfg(feature = "worker")]
    pub(crate) fn keep_pace(&self) {
        while self.inner.shared.waiting() > BEHIND_MAX_BYTES && self.inner.shared.ended().is_none() {
            self.inner.send(0);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Subscribes to something: first comes how it stands, then every change.
    ///
    /// # Errors
    /// Where the daemon refuses or the connection is lost.
    pub async fn subscribe(&self, topic: Topic) -> Result<Subscription, ClientError> {
        let subscribed = self.call(Subscribe { topic }).await?;
        let events = self.inner.shared.events_of(subscribed.subscription);
        Ok(Subscription::new(self.clone(), subscribed.subscription, events))
    }

    /// Says what is done with what the daemon tells this worker to do, on whichever thread hears it; `None` is
    /// the end of the connection. Once, before it attaches.
    #[cfg(feature = "worker")]
    pub(crate) fn on_orders(&self, ordered: impl Fn(Option<Order>) + Send + Sync + 'static) {
        self.inner.shared.on_orders(Box::new(ordered));
    }

    /// Sends and receives what can be right now: for a thread of its own, so that code that blocks the runtime
    /// does not make this process deaf. Says whether there still is a connection.
    #[cfg(feature = "worker")]
    pub(crate) fn look_after(&self) -> bool {
        if let Some(stream) = self.inner.stream.upgrade() {
            self.inner.shared.look_after(&stream);
        }
        self.inner.shared.ended().is_none()
    }
}

/// An execution that waits, until its request has no number any more.
#[cfg(feature = "worker")]
struct Waiting<'a> {
    client: &'a Client,
    execution: ExecutionId,
    number: Option<u64>,
}

#[cfg(feature = "worker")]
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.number.and_then(|number| Json::from_serialize(&number).ok()) {
            // Where the connection is lost nobody waits any more.
            let _gone = self.client.tell(ExecutionGiveUp { execution: self.execution, request });
        }
    }
}

/// An answer that is on its way.
pub(crate) type Pending = oneshot::Receiver<Result<Outgoing, ClientError>>;

/// Waits for the answer to a call.
pub(crate) async fn answer<C: Call>(pending: Pending) -> Result<C::Reply, ClientError> {
    let lost = |_| Err(ClientError::Lost("it was closed".to_owned()));
    read_answer::<C>(pending.await.unwrap_or_else(lost))
}

fn read_answer<C: Call>(answer: Result<Outgoing, ClientError>) -> Result<C::Reply, ClientError> {
    let other = || ClientError::Lost("the daemon answered something else".to_owned());
    let Outgoing::Reply(_, reply) = answer? else { return Err(other()) };
    let reply: Reply = reply?;
    C::from_reply(reply).ok_or_else(other)
}
