//! The owner of the engine: one thread takes what has arrived, decides it in
//! order, and commits it in turns.
//!
//! Connections call [`Owner::request`], which decides at once. What needs to be
//! on disk first (replies to submissions, assignments, results) is *held* until
//! the commit of its turn is done; a hit's reply leaves at once. While a commit
//! is in flight the next turn gathers.

mod arguments;
mod blobs;
mod clock;
mod commands;
mod compare;
mod exec;
mod executions;
mod explain;
mod lists;
mod predict;
mod processes;
mod progress;
mod pruning;
mod requests;
mod sensors;
mod starting;
mod subscriptions;
mod turn;
mod views;
mod windows;
mod working;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use ibid::blocking::Place;
use ibid::model::{ExecutionId, Json, StepId, Stored, Timestamp};
use ibid::protocol::{Outgoing, Refused, Reply, Request};
use tokio::sync::{Notify, oneshot};

use self::clock::{Clock, now};
use crate::engine::{Engine, Turn};
use crate::server::{Handler, Outbox, RequestId, SessionId, Ticket};
use crate::store::{BlobRecord, Blobs, LogChunk, Past, Space, Store, StoreError, TurnRecord, Writer};
use crate::workers::{Inputs, LogBook, Pools};

/// What the daemon is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory.
    pub data: PathBuf,
    /// The socket.
    pub socket: PathBuf,
    /// Idle workers are stopped after this long.
    pub worker_idle: Duration,
    /// How many processes one repository may have.
    pub processes: usize,
    /// How much of an execution's log is kept, bytes of text.
    pub log_limit: usize,
    /// How long running executions may take to end when the daemon stops.
    pub drain: Duration,
}

/// The owner.
pub struct Owner {
    settings: Settings,
    state: RefCell<State>,
    /// Something was decided: a turn may be closed.
    decided: Notify,
    /// The next due time may have changed.
    rescheduled: Notify,
    /// Log lines wait to be written.
    logged: Notify,
    /// A turn was closed: more is taken into the next.
    roomy: Notify,
    /// The daemon is to stop.
    stop: Notify,
    /// A worker process was started.
    started_worker: Notify,
    failure: RefCell<Option<StoreError>>,
    package: PathBuf,
    blobs: Blobs,
    /// What is known of the input files of commands.
    inputs: Inputs,
    begun: Instant,
    started: Timestamp,
    start_took: Cell<u64>,
    me: Weak<Self>,
}

struct State {
    engine: Engine,
    clock: Clock,
    past: Past,
    writer: Writer,
    last: TurnRecord,
    in_flight: bool,
    values: Vec<([u8; 32], Json)>,
    log_chunks: Vec<LogChunk>,
    logs: LogBook,
    /// What executions print is read into this.
    output_buffer: Vec<u8>,
    /// Leaves when the open turn is committed.
    held: Vec<Held>,
    /// Leaves when the turn in flight is committed.
    flying: Vec<Held>,
    touched: subscriptions::Touched,
    windows: windows::Windows,
    progress: BTreeMap<ExecutionId, progress::Progress>,
    /// Large values that were handed over and whose records are not committed yet.
    handed_over: BTreeMap<[u8; 32], BlobRecord>,
    sessions: BTreeMap<SessionId, Session>,
    next_session: SessionId,
    /// Clients that wait for a step's outcome.
    waits: BTreeMap<StepId, Vec<Ticket>>,
    /// Executions that wait, by the token that the engine knows.
    answers: BTreeMap<u64, executions::Answer>,
    next_token: u64,
    pools: Pools,
    templates: BTreeMap<String, working::Arriving>,
    /// Large values that were handed over and that no message has used yet, and when.
    unclaimed: RefCell<BTreeMap<[u8; 32], Timestamp>>,
    /// Records that were pruned, to be removed with the open turn.
    removed: Vec<(Space, Vec<u8>)>,
    /// Set while something is pruned.
    pruning: Option<pruning::Since>,
    /// Results of commands that clients find without asking, by identity: see [`ibid::blocking::PublishedResult`].
    published: BTreeMap<[u8; 32], BTreeSet<Place>>,
    /// Whether notes of what was taken are looked for from time to time.
    collecting: bool,
    /// How the last command was to be run, and where that is kept.
    last_setting: Option<(Json, Stored)>,
    /// The shell commands that run.
    commands: BTreeMap<ExecutionId, commands::Running>,
    stopping: bool,
}

struct Session {
    outbox: Rc<Outbox>,
    worker: Option<u32>,
    subscriptions: BTreeMap<u64, subscriptions::Subscription>,
    next_subscription: u64,
    /// Commands that are stopped with it, unless somebody else wants them.
    commands: BTreeSet<ExecutionId>,
}

/// While more than this waits for the open turn to be committed, nothing is read from any client: a turn, and
/// what it takes in memory, stays bounded.
const HELD_MAX: usize = 4096;

/// Something that must not happen before a commit.
#[expect(clippy::large_enum_variant, reason = "nearly all are messages, and they live for one turn")]
enum Held {
    Send(Ticket, Outgoing),
    Wake(oneshot::Sender<()>),
}

impl Owner {
    /// Takes up the work that the store remembers. Must be called within a `LocalSet`.
    ///
    /// # Errors
    /// Where the store cannot be read or the commit thread not started.
    pub fn start(settings: Settings, store: Store, package: PathBuf, begun: Instant) -> Result<Rc<Self>, StoreError> {
        let last = store.last_turn()?;
        let remembered = store.remembered()?;
        let blobs = store.blobs().clone();
        let past = Past::new(store.clone());
        let engine = Engine::recover(Turn { now: now(), past: &past }, remembered);
        if let Some(error) = past.take_failure() {
            return Err(error);
        }
        let (committed, received) = tokio::sync::mpsc::unbounded_channel();
        let path = store.path().to_owned();
        let writer = Writer::start(store, move |done| {
            // The owner is gone only when the process ends.
            let _ended = committed.send(done);
        })
        .map_err(|source| StoreError::Directory { path, source })?;
        let state = State {
            engine,
            clock: Clock::new(),
            past,
            writer,
            last,
            in_flight: false,
            values: Vec::new(),
            log_chunks: Vec::new(),
            logs: LogBook::new(settings.log_limit),
            output_buffer: Vec::new(),
            held: Vec::new(),
            flying: Vec::new(),
            touched: subscriptions::Touched::default(),
            windows: windows::Windows::default(),
            progress: BTreeMap::new(),
            handed_over: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            waits: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_token: 1,
            pools: Pools::default(),
            templates: BTreeMap::new(),
            unclaimed: RefCell::new(BTreeMap::new()),
            removed: Vec::new(),
            pruning: None,
            published: BTreeMap::new(),
            collecting: false,
            last_setting: None,
            commands: BTreeMap::new(),
            stopping: false,
        };
        let owner = Rc::new_cyclic(|me| Self {
            settings,
            state: RefCell::new(state),
            decided: Notify::new(),
            rescheduled: Notify::new(),
            logged: Notify::new(),
            roomy: Notify::new(),
            stop: Notify::new(),
            started_worker: Notify::new(),
            failure: RefCell::new(None),
            package,
            blobs,
            inputs: Inputs::default(),
            begun,
            started: now(),
            start_took: Cell::new(0),
            me: me.clone(),
        });
        turn::run(&owner, received);
        owner.begin_publishing();
        owner.wake();
        Ok(owner)
    }

    /// The daemon serves from now on.
    pub fn serving(&self) {
        self.start_took.set(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    }

    /// Waits until the daemon is to stop, and says whether because the store failed.
    pub async fn stopped(&self) -> Result<(), StoreError> {
        self.stop.notified().await;
        match self.failure.borrow_mut().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn wake(&self) {
        self.decided.notify_one();
    }

    /// Answers a request now, or when everything decided so far is on disk.
    fn reply(&self, state: &mut State, ticket: &Ticket, reply: Result<Reply, Refused>, when: When) {
        let message = Outgoing::Reply(0, reply);
        if when == When::Synced && state.has_unsynced() {
            state.held.push(Held::Send(ticket.clone(), message));
            self.wake();
        } else {
            state.send(ticket, message);
        }
    }

    /// Resolves when everything decided so far is committed.
    async fn barrier(&self) {
        let waiting = {
            let mut state = self.state.borrow_mut();
            if !state.has_unsynced() {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            state.held.push(Held::Wake(sender));
            receiver
        };
        self.wake();
        // An error means that the daemon stops; then nothing waits for the answer.
        let _stopping = waiting.await;
    }
}

/// When an answer may leave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Synced,
}

impl State {
    /// Lets the engine decide something, now and in the light of everything that is finished.
    fn decide<T>(&mut self, decide: impl FnOnce(&mut Engine, Turn<'_>) -> T) -> T {
        let (now, set_by) = self.clock.read();
        if let Some(by) = set_by {
            self.engine.clock_was_set(by);
        }
        decide(&mut self.engine, Turn { now, past: &self.past })
    }

    /// The text of a value, also of one that is not committed yet; of a large one that is the name of its
    /// file. `None` where it is gone.
    fn text(&self, value: &Stored) -> Option<Json> {
        if let Stored::Kept { hash, .. } = value
            && let Some((_, text)) = self.values.iter().find(|(kept, _)| kept == hash)
        {
            return Some(text.clone());
        }
        self.past.text(value)
    }

    fn has_unsynced(&self) -> bool {
        self.in_flight
            || !self.held.is_empty()
            || !self.values.is_empty()
            || !self.handed_over.is_empty()
            || !self.removed.is_empty()
            || self.engine.has_changes()
    }

    fn send(&self, ticket: &Ticket, message: Outgoing) {
        if let Some(session) = self.sessions.get(&ticket.session) {
            session.outbox.push(&ticket.id, message);
        }
    }
}

impl Handler for Owner {
    fn connected(&self, outbox: Rc<Outbox>) -> SessionId {
        let mut state = self.state.borrow_mut();
        let number = state.next_session;
        state.next_session += 1;
        let session = Session {
            outbox,
            worker: None,
            subscriptions: BTreeMap::new(),
            next_subscription: 1,
            commands: BTreeSet::new(),
        };
        state.sessions.insert(number, session);
        number
    }

    async fn room(&self) {
        loop {
            let closed = self.roomy.notified();
            if self.state.borrow().held.len() < HELD_MAX {
                return;
            }
            closed.await;
        }
    }

    fn request(&self, ticket: Ticket, request: Result<Request, Refused>) {
        match request {
            Ok(request) => self.take_request(&ticket, request),
            Err(refused) => {
                let mut state = self.state.borrow_mut();
                self.reply(&mut state, &ticket, Err(refused), When::Now);
            }
        }
    }

    fn disconnected(&self, session: SessionId) {
        let mut state = self.state.borrow_mut();
        let Some(ended) = state.sessions.remove(&session) else { return };
        for waiting in state.waits.values_mut() {
            waiting.retain(|ticket| ticket.session != session);
        }
        state.waits.retain(|_, waiting| !waiting.is_empty());
        self.forget_waits(&mut state, session);
        for execution in ended.commands {
            self.withdraw(&mut state, execution, "its client went away");
            self.wake();
        }
        if let Some(worker) = ended.worker {
            self.worker_disconnected(&mut state, worker);
        }
    }
}

/// A ticket for something that nobody asked for.
fn unasked(session: SessionId) -> Ticket {
    Ticket { session, id: RequestId::None }
}
