//! Which processes there are, and what each is doing.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ibid::model::{ExecutionId, Timestamp};

use super::{Output, Readers, Stamp};
use crate::engine::RepositoryKey;
use crate::server::SessionId;

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Has imported the module; executors are forked from it.
    Template,
    /// Runs executions, one at a time.
    Executor,
    /// Hosts a repository itself; takes several at once.
    Program,
    /// Was not started by the daemon; takes several at once.
    External,
    /// No process of its own: stands for the shell commands of its repository, each of which is one.
    Commands,
}

impl Role {
    /// As shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Executor => "executor",
            Self::Program => "program",
            Self::External => "external",
            Self::Commands => "commands",
        }
    }
}

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Started, but has not said that it is ready.
    Starting,
    /// Ready for work.
    Ready,
    /// Takes no more work and ends when it has finished.
    Leaving,
}

/// One process.
#[derive(Debug)]
pub struct Worker {
    /// Its number; shown as `w-3`.
    pub number: u32,
    /// What it hosts.
    pub key: RepositoryKey,
    /// What it is for.
    pub role: Role,
    /// How far it is.
    pub standing: Standing,
    /// Its process, once known.
    pub pid: Option<u32>,
    /// Its connection, once attached.
    pub session: Option<SessionId>,
    /// The registration whose code it runs.
    pub generation: u64,
    /// What it runs.
    pub executions: BTreeSet<ExecutionId>,
    /// How many it has finished.
    pub finished: u64,
    /// When it was started.
    pub started: Timestamp,
    /// Since when it has had nothing to do.
    pub idle_since: Timestamp,
    /// The file of its program when it was started, where that hosts the repository itself.
    pub program: Option<Stamp>,
    /// Its output and error.
    pub outputs: Option<Rc<[Output; 2]>>,
    /// What reads them.
    pub readers: Option<Readers>,
}

impl Worker {
    /// Whether it can take an execution now.
    #[must_use]
    pub fn is_free(&self) -> bool {
        match self.role {
            Role::Template => false,
            Role::Executor => self.standing == Standing::Ready && self.executions.is_empty(),
            // The repository's slots are its limit; waiting executions have none.
            Role::Program | Role::External | Role::Commands => self.standing == Standing::Ready,
        }
    }
}

/// The processes of one repository.
#[derive(Debug, Default)]
pub struct Pool {
    /// The template, started or starting.
    pub template: Option<u32>,
    /// Why executors are started afresh instead of forked.
    pub unforkable: Option<String>,
    /// Free workers.
    pub free: BTreeSet<u32>,
    /// Executors that were asked for and have not attached yet.
    pub starting: BTreeSet<u32>,
    /// Starts that failed in a row: the next one waits longer.
    pub failures: u32,
    /// No start before this time.
    pub not_before: Timestamp,
}

/// All processes.
#[derive(Debug, Default)]
pub struct Pools {
    /// By number.
    pub workers: BTreeMap<u32, Worker>,
    /// By repository.
    pub pools: BTreeMap<RepositoryKey, Pool>,
    last: u32,
}

impl Pools {
    /// Adds a process that is about to start.
    pub fn add(&mut self, key: &RepositoryKey, role: Role, generation: u64, now: Timestamp) -> u32 {
        self.last += 1;
        let number = self.last;
        let worker = Worker {
            number,
            key: key.clone(),
            role,
            standing: Standing::Starting,
            pid: None,
            session: None,
            generation,
            executions: BTreeSet::new(),
            finished: 0,
            started: now,
            idle_since: now,
            program: None,
            outputs: None,
            readers: None,
        };
        self.workers.insert(number, worker);
        number
    }

    /// The processes of a repository.
    pub fn pool(&mut self, key: &RepositoryKey) -> &mut Pool {
        self.pools.entry(key.clone()).or_default()
    }

    /// A process is gone or takes no more work: it is not offered any.
    pub fn withdraw(&mut self, number: u32) {
        if let Some(worker) = self.workers.get(&number)
            && let Some(pool) = self.pools.get_mut(&worker.key)
        {
            pool.free.remove(&number);
            pool.starting.remove(&number);
            if pool.template == Some(number) {
                pool.template = None;
            }
        }
    }

    /// Notes again whether a worker is free.
    pub fn refresh(&mut self, number: u32) {
        let Some(worker) = self.workers.get(&number) else { return };
        let pool = self.pools.entry(worker.key.clone()).or_default();
        if worker.is_free() {
            pool.free.insert(number);
        } else {
            pool.free.remove(&number);
        }
    }

    /// The free worker of a repository that has least to do.
    #[must_use]
    pub fn least_busy(&self, key: &RepositoryKey) -> Option<u32> {
        let load = |number: &&u32| self.workers.get(number).map_or(0, |worker| worker.executions.len());
        self.pools.get(key)?.free.iter().min_by_key(load).copied()
    }

    /// How many processes of a repository run executions or are about to.
    #[must_use]
    pub fn executors(&self, key: &RepositoryKey) -> usize {
        self.workers.values().filter(|worker| worker.role != Role::Template && &worker.key == key).count()
    }
}
