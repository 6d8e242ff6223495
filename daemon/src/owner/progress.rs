//! How far running executions have come, as they say themselves. It is not kept.

use std::collections::BTreeMap;

use ibid::protocol::{Done, ExecutionProgress, ProgressView, Refused, Reply};

use super::{Owner, State};

/// An execution counts at most this many things, and reports as many figures.
const NAMES_MAX: usize = 64;

/// How long their names may be, bytes.
const NAME_MAX_BYTES: usize = 256;

/// What one execution has said last.
#[derive(Debug, Default)]
pub(super) struct Progress {
    counters: BTreeMap<String, (f64, Option<f64>)>,
    metrics: BTreeMap<String, f64>,
}

impl Progress {
    pub(super) fn counters(&self) -> Vec<ProgressView> {
        let view = |(label, (done, total)): (&String, &(f64, Option<f64>))| ProgressView {
            label: label.clone(),
            done: *done,
            total: *total,
        };
        self.counters.iter().map(view).collect()
    }

    pub(super) fn metrics(&self) -> Vec<(String, f64)> {
        self.metrics.iter().map(|(name, value)| (name.clone(), *value)).collect()
    }
}

impl State {
    /// What executions that have ended said last is said no more.
    pub(super) fn forget_progress(&mut self) {
        let engine = &self.engine;
        self.progress.retain(|execution, _| engine.is_running(*execution));
    }
}

impl Owner {
    pub(super) fn execution_progress(&self, state: &mut State, said: ExecutionProgress) -> Result<Reply, Refused> {
        let execution = said.execution;
        if !state.engine.is_running(execution) {
            return Err(Refused::new("not_running", format!("{execution} is not running, so it makes no progress")));
        }
        let is_long = |name: &String| name.len() > NAME_MAX_BYTES;
        if is_long(&said.label) || said.metrics.iter().any(|(name, _)| is_long(name)) {
            let message = format!("what is counted has a name of over {NAME_MAX_BYTES} bytes; give it a short one");
            return Err(Refused::new("bad_request", message));
        }
        let progress = state.progress.entry(execution).or_default();
        let is_number = |number: &f64| number.is_finite();
        if let Some(done) = said.done.filter(is_number)
            && (progress.counters.len() < NAMES_MAX || progress.counters.contains_key(&said.label))
        {
            progress.counters.insert(said.label, (done, said.total.filter(is_number)));
        }
        for (name, value) in said.metrics {
            if is_number(&value) && (progress.metrics.len() < NAMES_MAX || progress.metrics.contains_key(&name)) {
                progress.metrics.insert(name, value);
            }
        }
        self.mark_progress(state, execution.step);
        Ok(Reply::ExecutionProgress(Done {}))
    }
}
