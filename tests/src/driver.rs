//! A workflow that is held open, and makes calls as fast as the daemon answers.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::worker::{REPOSITORY, Worker, part};
use crate::{Home, JsonClient};
use ibid::blocking::Client;
use ibid::model::{Cache, ExecutionId, Id, Json};
use ibid::protocol::{CallSpec, ExecutionCall, GetResult, Notice, Order, Outgoing, Reply, Request, Scope, Submit};
use serde_json::json;

/// Calls in one message while the store is filled.
const BATCH: usize = 500;
/// Messages on their way at once.
const DEPTH: usize = 64;

/// One connection that is the worker of a held workflow and of what it calls.
pub struct Driver {
    worker: Worker,
    held: ExecutionId,
}

fn lost(error: impl std::fmt::Display) -> ! {
    panic!("the bench lost its daemon: {error}")
}

fn number(n: u64) -> Json {
    Json::parse(n.to_string()).unwrap_or_else(|error| lost(error))
}

fn hold(home: &Home) {
    let mut client = Client::connect(&home.socket()).unwrap_or_else(|error| lost(error));
    let submit = Submit { arguments: vec![number(0)], ..Submit::new(Scope::default(), format!("{REPOSITORY}/hold")) };
    client.call(submit).unwrap_or_else(|error| lost(error));
}

impl Driver {
    /// Attaches, and starts the workflow that is held.
    pub fn start(home: &Home) -> Self {
        let mut worker = Worker::attach(&home.socket(), 64, 0).unwrap_or_else(|error| lost(error));
        hold(home);
        loop {
            if let Outgoing::Notice(Notice::Order(Order::Execute(execute))) =
                worker.receive().unwrap_or_else(|error| lost(error))
            {
                return Self { worker, held: execute.execution };
            }
        }
    }

    fn call(&mut self, calls: Vec<CallSpec>) -> u64 {
        let call = ExecutionCall { execution: self.held, calls, wait: false };
        self.worker.send(Request::ExecutionCall(call)).unwrap_or_else(|error| lost(error))
    }

    fn receive(&mut self) -> Outgoing {
        self.worker.receive().unwrap_or_else(|error| lost(error))
    }

    /// Makes calls and executes them all, in this very thread.
    pub fn execute(&mut self, numbers: Range<u64>, cache: Cache) {
        let wanted = numbers.end - numbers.start;
        let mut waiting: VecDeque<u64> = numbers.collect();
        let (mut done, mut sent, mut answered) = (0, 0, 0);
        while done < wanted {
            // A few batches ahead: more would only wait in the daemon.
            while sent - answered < 4 && !waiting.is_empty() {
                let take = waiting.len().min(BATCH);
                let calls = waiting.drain(..take).map(|n| part(number(n), cache, 0)).collect();
                self.call(calls);
                sent += 1;
            }
            match self.receive() {
                Outgoing::Notice(Notice::Order(Order::Execute(execute))) => {
                    self.worker.complete(execute.execution, number(1)).unwrap_or_else(|error| lost(error));
                }
                Outgoing::Reply(_, Ok(Reply::ExecutionComplete(_))) => done += 1,
                Outgoing::Reply(_, Ok(Reply::ExecutionCall(_))) => answered += 1,
                Outgoing::Reply(_, Err(refused)) => lost(refused),
                _ => {}
            }
        }
    }

    /// Makes calls that are assigned and never end.
    pub fn hold(&mut self, count: u64) {
        self.call((0..count).map(|n| part(number(n), Cache::Off, 0)).collect());
        let mut assigned = 0;
        while assigned < count {
            if matches!(self.receive(), Outgoing::Notice(Notice::Order(Order::Execute(_)))) {
                assigned += 1;
            }
        }
    }

    /// One call that hits, and how long it took.
    pub fn hit(&mut self, n: u64) -> Duration {
        let begun = Instant::now();
        self.call(vec![part(number(n), Cache::On, 0)]);
        self.answer_with_value();
        begun.elapsed()
    }

    fn answer_with_value(&mut self) {
        match self.receive() {
            Outgoing::Reply(_, Ok(Reply::ExecutionCall(called))) => {
                assert!(called.calls.iter().all(|call| call.outcome.value.is_some()), "not a hit: {called:?}");
            }
            other => lost(format!("{other:?}")),
        }
    }

    /// Many calls that hit, several on their way at once.
    pub fn hits(&mut self, numbers: impl Iterator<Item = u64>) {
        let mut ahead = 0;
        for n in numbers {
            self.call(vec![part(number(n), Cache::On, 0)]);
            ahead += 1;
            if ahead == DEPTH {
                for _ in 0..DEPTH / 2 {
                    self.answer_with_value();
                }
                ahead -= DEPTH / 2;
            }
        }
        for _ in 0..ahead {
            self.answer_with_value();
        }
    }

    /// How long it takes until every follower of one execution has its result.
    pub fn links(&mut self, followers: u64, key: u64, home: &Home) -> Duration {
        self.call(vec![part(number(key), Cache::On, 0)]);
        let mut leader = None;
        let mut last = None;
        let mut answers = 1 + followers.div_ceil(BATCH as u64);
        let mut left = followers;
        while answers > 0 || leader.is_none() {
            match self.receive() {
                Outgoing::Notice(Notice::Order(Order::Execute(execute))) => leader = Some(execute.execution),
                Outgoing::Reply(_, Ok(Reply::ExecutionCall(called))) => {
                    answers -= 1;
                    last = called.calls.last().map(|call| call.step);
                    let take = left.min(BATCH as u64);
                    left -= take;
                    if take > 0 {
                        self.call((0..take).map(|_| part(number(key), Cache::On, 0)).collect());
                    }
                }
                other => lost(format!("{other:?}")),
            }
        }
        let (Some(leader), Some(last)) = (leader, last) else { lost("nothing was linked") };
        let mut client = Client::connect(&home.socket()).unwrap_or_else(|error| lost(error));
        let begun = Instant::now();
        self.worker.complete(leader, number(1)).unwrap_or_else(|error| lost(error));
        client.call(GetResult { id: Id::Step(last), wait: true, caller: None }).unwrap_or_else(|error| lost(error));
        begun.elapsed()
    }
}

/// The same over JSON lines.
pub struct JsonDriver {
    client: JsonClient,
    held: String,
}

impl JsonDriver {
    /// Attaches, and starts a workflow that is held.
    pub fn start(home: &Home) -> Self {
        let mut client = JsonClient::connect(&home.socket());
        let parameter = json!([{"name": "n", "kind": "positional_or_keyword"}]);
        let target = |name: &str, kind: &str| json!({"name": name, "kind": kind, "parameters": parameter});
        let targets = [target("hold", "workflow"), target("part", "task")];
        client.result(
            "worker.attach",
            &json!({"hosts": {"repository": REPOSITORY, "targets": targets, "concurrency": 8}}),
        );
        hold(home);
        loop {
            if let Some(line) = client.line()
                && line["method"] == "execute"
            {
                let held = line["params"]["execution"].as_str().unwrap_or_default().to_owned();
                return Self { client, held };
            }
        }
    }

    /// One call that hits, and how long it took.
    pub fn hit(&mut self, n: u64) -> Duration {
        let call = json!({"execution": self.held, "calls": [{"target": format!("{REPOSITORY}/part"), "arguments": [n], "options": {"cache": "on"}}]});
        let begun = Instant::now();
        let called = self.client.result("execution.call", &call);
        let took = begun.elapsed();
        assert_eq!(called["calls"][0]["outcome"]["state"], "succeeded", "{called}");
        took
    }
}
