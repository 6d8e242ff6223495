//! What a store would hold, in maps.

use std::collections::BTreeMap;

use ibid::model::{Environment, Run, RunId, Sensor, Step, StepId};
use ibid_daemon::engine::{Entry, Lookup, StartRecord};

/// What a store would hold.
#[derive(Default)]
pub struct Disk {
    pub live: BTreeMap<StepId, Step>,
    pub finished: BTreeMap<StepId, Step>,
    pub active: BTreeMap<RunId, Run>,
    pub quiet: BTreeMap<RunId, Run>,
    pub entries: BTreeMap<(u32, [u8; 32]), Entry>,
    pub starts: BTreeMap<String, StartRecord>,
    pub environments: BTreeMap<u32, Environment>,
    pub sensors: BTreeMap<(u32, [u8; 32]), Sensor>,
    pub next_sequence: u64,
    pub next_run: u64,
    /// How many finished steps the engine has read.
    pub read: std::cell::Cell<u64>,
}

impl Lookup for Disk {
    fn entry(&self, environment: u32, identity: &[u8; 32]) -> Option<Entry> {
        self.entries.get(&(environment, *identity)).cloned()
    }

    fn step(&self, id: StepId) -> Option<Step> {
        self.read.set(self.read.get() + 1);
        self.finished.get(&id).cloned()
    }

    fn run(&self, id: RunId) -> Option<Run> {
        self.quiet.get(&id).cloned()
    }

    fn start(&self, key: &str) -> Option<StartRecord> {
        self.starts.get(key).cloned()
    }
}
