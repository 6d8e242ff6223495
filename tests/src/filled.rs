//! A store with a long past: decided by the real engine in virtual time and written through the real
//! store, a month of what a few projects do, with hits, joins, failures, retries, groups and logs.

use std::path::Path;
use std::sync::mpsc;

use ibid::model::{
    Cache, CallOptions, ExecutionId, Failure, Json, Parameter, ParameterKind, Repository, Retries, RunId, TargetKind,
    TargetSpec,
};
use ibid_daemon::engine::{Call, Engine, Remembered, RepositoryKey, Start, Turn, argument, result};
use ibid_daemon::store::{Batch, LogChunk, LogLine, Past, Store, TurnRecord, Unpacked, Writer};

const HOUR: i64 = 3_600_000;

/// What a filled store has.
#[derive(Debug, Clone)]
pub struct Filled {
    /// Steps of all runs.
    pub steps: u64,
    /// Runs.
    pub runs: u64,
    /// The run with the most steps: about a tenth of all.
    pub largest: RunId,
    /// The execution with the longest log.
    pub logged: ExecutionId,
}

/// What runs in which project.
const PROJECTS: [(&str, &str, &str, &[&str]); 3] = [
    ("news", "production", "news.repo", &["fetch_page", "parse", "summarise", "translate"]),
    ("shop", "production", "shop.prices", &["fetch_product", "convert", "compare"]),
    ("lab", "default", "lab.train", &["load", "clean", "fit", "score"]),
];

const WORKFLOWS: [[&str; 2]; 3] =
    [["nightly_report", "backfill"], ["hourly_prices", "audit"], ["sweep", "cross_validate"]];

struct Filler {
    engine: Engine,
    past: Past,
    writer: Writer,
    committed: mpsc::Receiver<ibid_daemon::store::Committed>,
    last: TurnRecord,
    now: i64,
    seed: u64,
    logs: Vec<LogChunk>,
    steps: u64,
    runs: u64,
}

impl Filler {
    fn chance(&mut self, of: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % of.max(1)
    }

    fn turn<T>(&mut self, act: impl FnOnce(&mut Engine, Turn<'_>) -> T) -> T {
        act(&mut self.engine, Turn { now: self.now, past: &self.past })
    }

    fn commit(&mut self) {
        self.engine.take_effects();
        let mut changes = self.engine.drain();
        // Nobody waits for any of it: it is synced once, at the end.
        changes.durable = false;
        let stats = self.past.count(&changes, self.now);
        let entries = changes.entries.clone();
        let rest = Unpacked { logs: std::mem::take(&mut self.logs), stats, ..Unpacked::default() };
        let (batch, record) = Batch::pack(&self.last, changes, rest);
        self.last = record;
        self.past.cover(&batch);
        self.past.remember_entries(&entries);
        assert!(self.writer.commit(batch), "the store takes no more");
        let done = self.committed.recv().unwrap_or_else(|_| panic!("the commit thread is gone"));
        done.result.unwrap_or_else(|error| panic!("{error}"));
        self.past.uncover(&done.batch);
    }

    fn log(&mut self, execution: ExecutionId, lines: u64) {
        let mut first = 0;
        let mut number = 0;
        while first < lines {
            let end = (first + 2000).min(lines);
            let line = |n: u64| LogLine {
                at: self.now + i64::try_from(n).unwrap_or(0),
                level: if n % 97 == 96 { "warning" } else { "info" }.to_owned(),
                text: format!(
                    "row {n} of {lines} read, {} bytes, checksum {:08x}",
                    n * 37 % 4096,
                    n * 2_654_435_761 % 4_294_967_296
                ),
                values: vec![("rows".to_owned(), json(&n.to_string()))],
            };
            self.logs.push(LogChunk { execution, number, first, lines: (first..end).map(line).collect() });
            first = end;
            number += 1;
            if number.is_multiple_of(50) {
                self.commit();
            }
        }
    }

    /// A run that makes so many calls, in a few waves; some of them in a group.
    fn run(&mut self, project: usize, environment: u32, calls: u64) -> RunId {
        let (_, _, repository, tasks) = PROJECTS[project];
        let key: RepositoryKey = (environment, repository.to_owned());
        let workflow = WORKFLOWS[project][usize::from(calls > 200)];
        let day = self.now / (24 * HOUR);
        let start = Start {
            environment,
            target: format!("{repository}/{workflow}"),
            arguments: vec![text(&format!("day {day}")), number(calls)],
            options: CallOptions::default(),
            token: None,
            idempotency_key: None,
            command: None,
            taken: None,
        };
        let run = self.turn(|engine, t| engine.start(t, start)).unwrap_or_else(|error| panic!("{error}")).run;
        let root = self.next(&key).unwrap_or_else(|| panic!("the root is not assigned"));
        let mut left = calls;
        while left > 0 {
            let wave = left.min(50 + self.chance(150));
            left -= wave;
            let made: Vec<Call> = (0..wave).map(|at| self.call_of(project, repository, tasks, at)).collect();
            let called = self.turn(|engine, t| engine.call(t, root, made)).unwrap_or_else(|error| panic!("{error}"));
            self.steps += called.len() as u64;
            while let Some(execution) = self.next(&key) {
                self.now += i64::try_from(self.chance(40)).unwrap_or(0);
                self.end(execution);
            }
            // Retries come due.
            for _ in 0..3 {
                self.now += 1000;
                self.turn(|engine, t| engine.tick(t));
                while let Some(execution) = self.next(&key) {
                    self.end(execution);
                }
            }
        }
        if self.chance(40) == 0 {
            self.turn(|engine, t| engine.fail(t, root, failure("ValueError", "a report without pages")));
        } else {
            let (value, _) = result(json("{\"pages\":12,\"words\":48211}")).unwrap_or_else(|error| panic!("{error}"));
            self.turn(|engine, t| engine.complete(t, root, value));
        }
        self.steps += 1;
        self.runs += 1;
        run
    }

    fn call_of(&mut self, project: usize, repository: &str, tasks: &[&str], at: u64) -> Call {
        let which = usize::try_from(self.chance(tasks.len() as u64)).unwrap_or(0);
        // A few arguments are asked for often, most of them rarely.
        let often = self.chance(10) < 4;
        let number_of = if often { self.chance(200) } else { self.chance(2_000_000) };
        let cache = match self.chance(4) {
            0 => Cache::MaxAge(12 * 3_600_000),
            1 if project == 2 => Cache::Off,
            _ => Cache::On,
        };
        let retries = Retries { limit: 1, delay_min: 500, delay_max: 500 };
        Call {
            target: format!("{repository}/{}", tasks[which]),
            arguments: vec![text(&format!("item-{number_of}")), text(["en", "de", "fr"][which % 3])],
            options: CallOptions { cache, retries, ..CallOptions::default() },
            group: at.is_multiple_of(5).then(|| format!("{}s", tasks[which])),
            command: None,
        }
    }

    fn next(&mut self, key: &RepositoryKey) -> Option<ExecutionId> {
        let worker = u32::try_from(self.chance(8)).unwrap_or(0) + 1;
        self.turn(|engine, t| engine.assign(t, key, worker)).map(|assignment| assignment.execution)
    }

    fn end(&mut self, execution: ExecutionId) {
        let took = i64::try_from(20 + self.chance(900)).unwrap_or(0);
        self.now += took / 40;
        match self.chance(60) {
            0 => _ = self.turn(|engine, t| engine.fail(t, execution, failure("TimeoutError", "no answer for 30 s"))),
            1 => _ = self.turn(|engine, t| engine.abandon(t, execution, "its worker was lost")),
            _ => {
                if self.chance(50) == 0 {
                    self.log(execution, 20);
                }
                let size = self.chance(120);
                let value = json(&format!("{{\"rows\":{size},\"sum\":{}}}", size * 17));
                let (value, _) = result(value).unwrap_or_else(|error| panic!("{error}"));
                self.turn(|engine, t| engine.complete(t, execution, value));
            }
        }
    }
}

fn failure(kind: &str, message: &str) -> Failure {
    Failure::new(kind, message)
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn text(text: &str) -> ibid::model::Argument {
    argument(Json::string(text)).map_or_else(|error| panic!("{error}"), |(argument, _)| argument)
}

fn number(number: u64) -> ibid::model::Argument {
    argument(json(&number.to_string())).map_or_else(|error| panic!("{error}"), |(argument, _)| argument)
}

fn target(name: &str, kind: TargetKind, parameters: &[&str]) -> TargetSpec {
    let parameter =
        |name: &&str| Parameter { name: (*name).to_owned(), kind: ParameterKind::PositionalOrKeyword, default: None };
    TargetSpec {
        name: name.to_owned(),
        kind,
        parameters: parameters.iter().map(parameter).collect(),
        options: CallOptions { cache: Cache::On, ..CallOptions::default() },
        own_key: false,
        doc: None,
        source: None,
    }
}

/// Fills the store in a data directory with at least so many steps, ending now, and a log of so many lines.
///
/// # Panics
/// Where the store cannot be opened or written, or the engine refuses what it should not.
#[must_use]
pub fn fill(data: &Path, steps: u64, lines: u64, now: i64) -> Filled {
    let store = Store::open(data).unwrap_or_else(|error| panic!("{error}"));
    let (send, committed) = mpsc::channel();
    let writer = Writer::start(store.clone(), move |done| {
        // The filler is gone only when it has ended.
        let _ended = send.send(done);
    });
    let past = Past::new(store.clone());
    // A store that is there already goes on where it ended.
    let engine = Engine::recover(Turn { now, past: &past }, Remembered::default());
    let mut filler = Filler {
        engine,
        past,
        writer: writer.unwrap_or_else(|error| panic!("{error}")),
        committed,
        last: TurnRecord::default(),
        now: now - 30 * 24 * HOUR,
        seed: 41,
        logs: Vec::new(),
        steps: 0,
        runs: 0,
    };
    let mut environments = Vec::new();
    for (at, (project, environment, repository, tasks)) in PROJECTS.iter().enumerate() {
        let number = filler.turn(|engine, _| engine.create_environment(project, environment));
        let tasks = tasks.iter().map(|name| target(name, TargetKind::Task, &["item", "lang"]));
        let workflows = WORKFLOWS[at].iter().map(|name| target(name, TargetKind::Workflow, &["day", "calls"]));
        filler.turn(|engine, _| {
            engine.register(Repository {
                environment: number,
                name: (*repository).to_owned(),
                targets: tasks.chain(workflows).collect(),
                concurrency: 64,
                launch: None,
                generation: 1,
                shell: None,
            })
        });
        environments.push(number);
    }
    let large = (steps / 10).max(10);
    let mut largest = None;
    while filler.steps < steps {
        let (project, calls) = match largest.is_none() && filler.steps > steps / 2 {
            true => (0, large),
            false => (usize::try_from(filler.chance(3)).unwrap_or(0), 3 + filler.chance(44)),
        };
        let run = filler.run(project, environments[project], calls);
        if calls == large {
            largest = Some(run);
        }
        let begun = now - 30 * 24 * HOUR;
        let due = begun + 30 * 24 * (HOUR / 1000) * i64::try_from(filler.steps * 1000 / steps).unwrap_or(0);
        filler.now = filler.now.max(due).min(now);
        if filler.runs.is_multiple_of(20) || calls == large {
            filler.commit();
        }
    }
    let run = filler.run(0, environments[0], 3);
    let logged = run.root().attempt(1);
    filler.log(logged, lines);
    filler.commit();
    store.sync().unwrap_or_else(|error| panic!("{error}"));
    Filled { steps: filler.steps, runs: filler.runs, largest: largest.unwrap_or(run), logged }
}
