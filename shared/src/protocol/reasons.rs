//! Why something ran, joined or was taken; what differs; what would happen.

use serde::{Deserialize, Serialize};

use super::messages::Submit;
use crate::model::{Decision, ExecutionId, Id, Millis, RunId, StepId};

messages! {
    /// Asks why.
    Why {
        /// Of what.
        id: Id,
    }
    /// Asks what differs between two executions.
    Compare {
        /// One of them; of a run or step its newest.
        one: Id,
        /// The other.
        other: Id,
    }
    /// What differs between two executions, and what does not.
    Comparison {
        /// One of them.
        one: ExecutionId,
        /// The other.
        other: ExecutionId,
        /// In the order in which they decide a look-up, then what came of it.
        parts: Vec<ComparedPart>,
    }
    /// A part of two executions.
    ComparedPart {
        /// What it is, e.g. `version`, `argument doc`, `result`.
        name: String,
        /// Whether they have it in common.
        equal: bool,
        /// Whether it decides a look-up.
        in_key: bool,
        /// As it is in the one, short.
        one: String,
        /// As it is in the other, short.
        other: String,
        /// Where within a value they differ: path, `-` or `+`, and what is there.
        changes: Vec<String>,
    }
    /// Why something ran, linked or hit.
    Explanation {
        /// Of which execution.
        execution: ExecutionId,
        /// The stable kind, e.g. `hit`, `too_old`.
        kind: String,
        /// One sentence.
        sentence: String,
        /// The facts behind it, in order.
        facts: Vec<Fact>,
        /// What would have made it a hit.
        would_hit: Option<String>,
        /// Why what differs does, each the cause of the one before; the last is the root cause.
        causes: Vec<Fact>,
        /// The verdict as stored.
        decision: Decision,
    }
    /// A named fact.
    Fact {
        /// What it is about.
        name: String,
        /// What there is to say.
        text: String,
        /// What it refers to.
        id: Option<Id>,
    }
    /// Asks what a start would do.
    Explain {
        /// The start.
        start: Submit,
    }
    /// What a start would do.
    ExplainedStart {
        /// The run that was like it, whose calls are explained.
        like: Option<RunId>,
        /// The start itself first, then the calls.
        calls: Vec<ExplainedCall>,
    }
    /// What one call would do.
    ExplainedCall {
        /// The target.
        target: String,
        /// Its arguments, short.
        arguments: String,
        /// The stable kind.
        kind: String,
        /// One sentence.
        sentence: String,
        /// What it was in the run that was like it.
        step: Option<StepId>,
    }
    /// Asks what running something again would come to.
    Predict {
        /// A run means its step 1.
        id: Id,
    }
    /// What running something again would come to, going by what it called before.
    Predicted {
        /// If it is forced and what it calls is looked up.
        forced: Prospect,
        /// If it is forced with everything below.
        below: Prospect,
        /// If its run is started again as a new one.
        again: Prospect,
    }
    /// What a re-run would come to.
    Prospect {
        /// Calls that would really run.
        runs: u32,
        /// Calls that would take or join a result.
        hits: u32,
        /// What they took the last time, those that would run, ms.
        spent: Millis,
        /// Whether there were more calls than were looked at.
        cut: bool,
    }
}
