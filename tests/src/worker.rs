//! A worker that speaks the bare protocol: for tests and benches that need none of Python.

use std::path::Path;

use ibid::blocking::{Client, ClientError, Listener, Sender};
use ibid::model::{Cache, CallOptions, Defer, ExecutionId, Json, Memo, Retries, TargetKind, TargetSpec, Wait};
use ibid::protocol::{
    CallSpec, Execute, ExecutionCall, ExecutionCheckpoint, ExecutionComplete, Hosts, Notice, Order, Outgoing, Reply,
    Request, Scope, WorkerAttach,
};

/// The repository that it hosts: workflow `job(n)` calls task `part(n)`, cached and with every other option
/// in turn, and returns its value. Workflow `stow(n)`, cached, returns its argument. Sensor `watch(n)` sets a checkpoint of n + 1, and so on.
pub const REPOSITORY: &str = "bare";

/// A connected worker.
pub struct Worker {
    sender: Sender,
    listener: Listener,
    next: u64,
    waiting: std::collections::BTreeMap<u64, ExecutionId>,
    /// Checkpoints that are not acknowledged yet.
    checkpoints: std::collections::BTreeMap<u64, (ExecutionId, u64)>,
    /// The newest that is.
    pub acknowledged: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

fn spec(name: &str, kind: TargetKind, retries: u32) -> TargetSpec {
    let parameter = ibid::model::Parameter {
        name: "n".to_owned(),
        kind: ibid::model::ParameterKind::PositionalOrKeyword,
        default: None,
    };
    let options =
        CallOptions { retries: Retries { limit: retries, delay_min: 0, delay_max: 0 }, ..CallOptions::default() };
    TargetSpec {
        name: name.to_owned(),
        kind,
        parameters: vec![parameter],
        options,
        own_key: false,
        doc: None,
        source: None,
    }
}

fn cached(spec: TargetSpec) -> TargetSpec {
    TargetSpec { options: CallOptions { cache: Cache::On, ..spec.options }, ..spec }
}

/// The call of `part` that `job` makes, and benches make many of.
#[must_use]
pub fn part(argument: Json, cache: Cache, retries: u32) -> CallSpec {
    let retries = Retries { limit: retries, delay_min: 0, delay_max: 0 };
    let options = CallOptions { cache, retries, ..CallOptions::default() };
    CallSpec { target: format!("{REPOSITORY}/part"), arguments: vec![argument], options, group: None }
}

impl Worker {
    /// Connects and says what it hosts.
    ///
    /// # Errors
    /// Where no daemon answers or it refuses.
    pub fn attach(socket: &Path, concurrency: u32, retries: u32) -> Result<Self, ClientError> {
        let mut client = Client::connect(socket)?;
        client.call(WorkerAttach {
            token: None,
            worker: None,
            pid: None,
            hosts: Some(Hosts {
                scope: Scope::default(),
                repository: REPOSITORY.to_owned(),
                targets: vec![
                    spec("job", TargetKind::Workflow, retries),
                    spec("hold", TargetKind::Workflow, 0),
                    spec("part", TargetKind::Task, retries),
                    cached(spec("stow", TargetKind::Workflow, retries)),
                    spec("watch", TargetKind::Sensor, 0),
                ],
                concurrency,
            }),
        })?;
        let (sender, listener) = client.split();
        Ok(Self {
            sender,
            listener,
            next: 1_000_000,
            waiting: std::collections::BTreeMap::new(),
            checkpoints: std::collections::BTreeMap::new(),
            acknowledged: std::sync::Arc::default(),
        })
    }

    /// Sends a request and returns its number.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub fn send(&mut self, request: Request) -> Result<u64, ClientError> {
        self.next += 1;
        self.sender.send(self.next, request)?;
        Ok(self.next)
    }

    /// The next message.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub fn receive(&mut self) -> Result<Outgoing, ClientError> {
        self.listener.receive()
    }

    /// Completes an execution.
    ///
    /// # Errors
    /// Where the connection is lost.
    pub fn complete(&mut self, execution: ExecutionId, result: Json) -> Result<(), ClientError> {
        self.send(Request::ExecutionComplete(ExecutionComplete { execution, result }))?;
        Ok(())
    }

    /// Works until the connection is lost; `started` hears of every execution.
    pub fn work(mut self, mut started: impl FnMut(&Execute)) -> ClientError {
        loop {
            let step = match self.listener.receive() {
                Ok(Outgoing::Notice(Notice::Order(Order::Execute(execute)))) => {
                    started(&execute);
                    self.begin(execute)
                }
                Ok(Outgoing::Reply(number, Ok(Reply::ExecutionCall(called)))) => {
                    let value = called.calls.into_iter().next().and_then(|call| call.outcome.value);
                    match self.waiting.remove(&number) {
                        Some(execution) => self.complete(execution, value.unwrap_or_else(Json::null)),
                        None => Ok(()),
                    }
                }
                Ok(Outgoing::Reply(number, Ok(Reply::ExecutionCheckpoint(_)))) => {
                    match self.checkpoints.remove(&number) {
                        Some((execution, reached)) => {
                            self.acknowledged.fetch_max(reached, std::sync::atomic::Ordering::SeqCst);
                            self.checkpoint(execution, reached + 1)
                        }
                        None => Ok(()),
                    }
                }
                Ok(_) => Ok(()),
                Err(error) => return error,
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    fn begin(&mut self, execute: Execute) -> Result<(), ClientError> {
        let argument = execute.arguments.into_iter().next().unwrap_or_else(Json::null);
        match execute.target.as_str() {
            "job" => {
                let mut call = part(argument, Cache::On, 1_000_000);
                // Every kind of call takes its turn; by its own key a deferred one waits for none but its like.
                match execute.execution.step.run.0 % 5 {
                    1 => call.options.memo = Memo::Arguments,
                    2 => call.options.defer = Some(Defer { key: Some(call.arguments[0].to_string()), max_wait: None }),
                    3 => call.options.wait = Wait::All,
                    4 => call.options.delay = 3,
                    _ => {}
                }
                let calls = vec![call];
                let call = ExecutionCall { execution: execute.execution, calls, wait: true };
                let number = self.send(Request::ExecutionCall(call))?;
                self.waiting.insert(number, execute.execution);
                Ok(())
            }
            "watch" => self.checkpoint(execute.execution, argument.read().unwrap_or(0) + 1),
            _ => self.complete(execute.execution, argument),
        }
    }

    fn checkpoint(&mut self, execution: ExecutionId, reached: u64) -> Result<(), ClientError> {
        let arguments = vec![Json::from_serialize(&reached).unwrap_or_else(|_| Json::null())];
        let number = self.send(Request::ExecutionCheckpoint(ExecutionCheckpoint { execution, arguments }))?;
        self.checkpoints.insert(number, (execution, reached));
        Ok(())
    }
}
