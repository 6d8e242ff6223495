//! What is said over the socket.
//!
//! One set of typed messages in two encodings, told apart by the first byte a
//! client sends: JSON-RPC 2.0 lines ([`json`]) and postcard frames ([`frame`]).
//! `PROTOCOL.md` documents them method by method.

/// Declares messages: plain records that both encodings carry.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )*
    };
}

mod cache;
mod daemon;
mod events;
mod exec;
pub mod frame;
pub mod json;
mod messages;
mod reasons;
mod rows;
#[cfg(feature = "schema")]
pub mod schema;
mod views;
mod words;
mod work;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use cache::*;
pub use daemon::*;
pub use events::*;
pub use exec::*;
pub use messages::*;
pub use reasons::*;
pub use rows::*;
pub use views::*;
pub use words::{command_in_words, length_in_words, size_in_words, value_in_words};
pub use work::*;

/// The version of the postcard protocol. Both sides must have the same.
pub const PROTOCOL_VERSION: u16 = 6;

/// The longest message in either encoding, bytes. Larger values go another way.
pub const MESSAGE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Why a request was not done. `kind` is stable, for programs; `message` is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{message}")]
pub struct Refused {
    /// e.g. `not_found`, `unfinished`, `bad_request`.
    pub kind: String,
    /// What happened, what it means and what to do next.
    pub message: String,
}

impl Refused {
    /// A refusal of a kind.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into() }
    }

    /// The code that JSON-RPC gives this kind.
    #[must_use]
    pub fn code(&self) -> i64 {
        match self.kind.as_str() {
            "parse_error" => -32700,
            "invalid_request" => -32600,
            "unknown_method" => -32601,
            "bad_request" => -32602,
            "internal" => -32603,
            _ => -32000,
        }
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident $name:literal ($request:ty) -> $reply:ty;)*) => {
        /// A request, by its method. New ones are only ever added at the end.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Request {
            $($(#[$doc])* $variant($request),)*
        }

        /// A reply, by the method that it answers. New ones are only ever added at the end.
        #[expect(clippy::large_enum_variant, reason = "they live for one turn, and a box would cost each of them")]
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Reply {
            $($(#[$doc])* $variant($reply),)*
        }

        /// The names of all methods.
        pub const METHODS: &[&str] = &[$($name),*];

        impl Request {
            /// The method's name.
            #[must_use]
            pub const fn method(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Reads a request from its JSON form.
            ///
            /// # Errors
            /// With the kind `unknown_method` or `bad_request`.
            pub fn from_json(method: &str, params: &RawValue) -> Result<Self, Refused> {
                match method {
                    $($name => serde_json::from_str(params.get()).map(Self::$variant).map_err(|error| {
                        Refused::new("bad_request", format!("the parameters of {} are not right: {error}", $name))
                    }),)*
                    _ => Err(json::unknown_method(method)),
                }
            }

            /// Its parameters as JSON.
            ///
            /// # Errors
            /// Where a member has no JSON form.
            pub fn to_json(&self) -> serde_json::Result<Box<RawValue>> {
                match self { $(Self::$variant(body) => serde_json::value::to_raw_value(body),)* }
            }
        }

        impl Reply {
            /// The result as JSON.
            ///
            /// # Errors
            /// Where a member has no JSON form.
            pub fn to_json(&self) -> serde_json::Result<Box<RawValue>> {
                match self { $(Self::$variant(body) => serde_json::value::to_raw_value(body),)* }
            }
        }

        /// The schemas of each method's parameters and result.
        #[cfg(feature = "schema")]
        pub fn method_schemas(generator: &mut schemars::SchemaGenerator) -> Vec<(&'static str, schemars::Schema, schemars::Schema)> {
            vec![$(($name, generator.subschema_for::<$request>(), generator.subschema_for::<$reply>())),*]
        }

        $(
            impl Call for $request {
                type Reply = $reply;

                fn into_request(self) -> Request {
                    Request::$variant(self)
                }

                fn from_reply(reply: Reply) -> Option<$reply> {
                    match reply {
                        Reply::$variant(reply) => Some(reply),
                        _ => None,
                    }
                }
            }
        )*
    };
}

/// A request type and the reply that belongs to it.
pub trait Call {
    /// What it is answered with.
    type Reply;
    /// As one of all requests.
    fn into_request(self) -> Request;
    /// From one of all replies, if it is the right one.
    fn from_reply(reply: Reply) -> Option<Self::Reply>;
}

methods! {
    /// Who speaks, and which version.
    Hello "hello" (Hello) -> Welcome;
    /// Whether anyone is there.
    Ping "ping" (Ping) -> Pong;
    /// Makes a program's targets known.
    Register "register" (Register) -> Registered;
    /// The targets that an environment sees.
    Targets "targets" (ListTargets) -> TargetList;
    /// Starts a workflow.
    Submit "submit" (Submit) -> Submitted;
    /// Waits for a result.
    Result "result" (GetResult) -> Outcome;
    /// A run, step or execution.
    Show "show" (Show) -> Shown;
    /// Runs, newest first.
    Runs "runs" (ListRuns) -> RunList;
    /// The steps of a run.
    Steps "steps" (ListSteps) -> StepList;
    /// What waits, and for what.
    Queue "queue" (ListQueue) -> QueueList;
    /// Namespaces with their figures, or the keys of one.
    CacheList "cache.list" (ListCache) -> CacheList;
    /// The figures of the cache as a whole.
    CacheStats "cache.stats" (GetCacheStats) -> CacheStats;
    /// One key: what it is doing now and has done.
    CacheShow "cache.show" (ShowKey) -> KeyView;
    /// Why something ran, linked or hit.
    Why "why" (Why) -> Explanation;
    /// What would happen to a start.
    Explain "explain" (Explain) -> ExplainedStart;
    /// Forces a step to run again.
    Rerun "rerun" (Rerun) -> Rerunning;
    /// Cancels.
    Cancel "cancel" (Cancel) -> Cancelled;
    /// What an execution wrote.
    Logs "logs" (GetLogs) -> LogLines;
    /// Worker processes.
    Workers "workers" (ListWorkers) -> WorkerList;
    /// Environments.
    Environments "environments" (ListEnvironments) -> EnvironmentList;
    /// The daemon's figures.
    Stats "stats" (GetStats) -> Stats;
    /// A snapshot and then changes.
    Subscribe "subscribe" (Subscribe) -> Subscribed;
    /// Ends a subscription.
    Unsubscribe "unsubscribe" (Unsubscribe) -> Done;
    /// Stops the daemon.
    Shutdown "shutdown" (Shutdown) -> Done;
    /// A worker says who it is.
    WorkerAttach "worker.attach" (WorkerAttach) -> Attached;
    /// A worker says what it hosts.
    WorkerReady "worker.ready" (WorkerReady) -> Done;
    /// A worker could not import its module.
    WorkerFailed "worker.failed" (WorkerFailed) -> Done;
    /// Calls from inside an execution.
    ExecutionCall "execution.call" (ExecutionCall) -> CalledList;
    /// Waits from inside an execution.
    ExecutionWait "execution.wait" (ExecutionWait) -> Waited;
    /// A result.
    ExecutionComplete "execution.complete" (ExecutionComplete) -> Done;
    /// An error.
    ExecutionFail "execution.fail" (ExecutionFail) -> Done;
    /// A message with values.
    ExecutionLog "execution.log" (ExecutionLog) -> Done;
    /// How far an execution has come.
    ExecutionProgress "execution.progress" (ExecutionProgress) -> Done;
    /// What a sensor wants to be started with the next time.
    ExecutionCheckpoint "execution.checkpoint" (ExecutionCheckpoint) -> Done;
    /// Sensors that were started.
    Sensors "sensors" (ListSensors) -> SensorList;
    /// Starts a sensor.
    SensorStart "sensor.start" (SensorStart) -> SensorStarted;
    /// Stops a sensor, for good.
    SensorStop "sensor.stop" (SensorStop) -> SensorStopped;
    /// Creates an environment, or gives one another base.
    EnvCreate "env.create" (EnvCreate) -> EnvCreated;
    /// Hands over a large value.
    BlobPut "blob.put" (BlobPut) -> Blob;
    /// Where a large value is.
    BlobGet "blob.get" (BlobGet) -> Blob;
    /// A part of a list.
    Rows "rows" (GetRows) -> Rows;
    /// What differs between two executions.
    Compare "compare" (Compare) -> Comparison;
    /// What running something again would come to.
    Predict "predict" (Predict) -> Predicted;
    /// Takes a key's results out of the look-up, or puts them back.
    CacheForget "cache.forget" (CacheForget) -> CacheChanged;
    /// Keeps a key's results from pruning.
    CachePin "cache.pin" (CachePin) -> CacheChanged;
    /// Leaves them to pruning again.
    CacheUnpin "cache.unpin" (CacheUnpin) -> CacheChanged;
    /// Executions, newest first.
    Executions "executions" (ListExecutions) -> ExecutionList;
    /// Executions that others are linked to.
    Links "links" (ListLinks) -> LinkList;
    /// Removes remembered results.
    CachePrune "cache.prune" (CachePrune) -> Pruned;
    /// Removes finished runs.
    RunsPrune "runs.prune" (RunsPrune) -> Pruned;
    /// Runs a shell command.
    Exec "exec" (Exec) -> ExecStarted;
    /// Hands a signal to one.
    ExecSignal "exec.signal" (ExecSignal) -> ExecSignalled;
    /// Looks through the whole store.
    StoreVerify "store.verify" (VerifyStore) -> StoreChecked;
    /// Stops waiting inside an execution.
    ExecutionGiveUp "execution.give_up" (ExecutionGiveUp) -> Done;
}

impl Request {
    /// Whether it comes from a worker, in the course of its work.
    #[must_use]
    pub fn is_of_worker(&self) -> bool {
        let method = self.method();
        method.starts_with("execution.") || method.starts_with("worker.")
    }
}

/// What the daemon says without being asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// A change that was subscribed to.
    Event(Event),
    /// Work for a worker.
    Order(Order),
}

impl Notice {
    /// The method's name in JSON-RPC.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Event(_) => "event",
            Self::Order(Order::Execute(_)) => "execute",
            Self::Order(Order::Fork(_)) => "fork",
            Self::Order(Order::Stop(_)) => "stop",
            Self::Order(Order::Cancel(_)) => "cancel",
        }
    }

    /// The parameters as JSON.
    ///
    /// # Errors
    /// Where a member has no JSON form.
    pub fn to_json(&self) -> serde_json::Result<Box<RawValue>> {
        match self {
            Self::Event(event) => serde_json::value::to_raw_value(event),
            Self::Order(Order::Execute(execute)) => serde_json::value::to_raw_value(execute),
            Self::Order(Order::Fork(fork)) => serde_json::value::to_raw_value(fork),
            Self::Order(Order::Stop(stop)) => serde_json::value::to_raw_value(stop),
            Self::Order(Order::Cancel(cancel)) => serde_json::value::to_raw_value(cancel),
        }
    }
}

/// What the daemon sends.
#[expect(clippy::large_enum_variant, reason = "they live for one turn, and a box would cost each of them")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outgoing {
    /// An answer to the request with this number.
    Reply(u64, std::result::Result<Reply, Refused>),
    /// Something that was not asked for.
    Notice(Notice),
}
