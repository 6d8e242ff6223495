//! Subscriptions: a snapshot and then changes.

use serde::{Deserialize, Serialize};

use super::daemon::Stats;
use super::messages::{LogLines, Scope};
use super::rows::{GetRows, Rows};
use super::views::{RunView, StepView};
use crate::model::{Id, RunId};

messages! {
    /// Asks for a snapshot and then changes.
    Subscribe {
        /// Of what.
        topic: Topic,
    }
    /// A subscription.
    Subscribed {
        /// Its number on this connection.
        subscription: u64,
    }
    /// Ends a subscription.
    Unsubscribe {
        /// Its number on this connection.
        subscription: u64,
    }
    /// A snapshot or a change.
    Event {
        /// Of which subscription.
        subscription: u64,
        /// Whether it replaces everything sent before.
        snapshot: bool,
        /// What.
        body: EventBody,
    }
}

/// What can be subscribed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// The newest runs, and every run that changes.
    Runs {
        /// Of one environment, or of all.
        #[serde(default)]
        scope: Option<Scope>,
        /// How many at first; 200 if absent.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// One run and its steps.
    Run {
        /// Which.
        run: RunId,
    },
    /// The log of the execution that does the work for this one.
    Log {
        /// Which.
        id: Id,
    },
    /// The daemon's figures, at most once a second.
    Stats,
    /// A part of a list, again whenever something in it has changed. The row it is anchored to stays
    /// the same one, except for the first and the last, which are whichever is that.
    Rows(GetRows),
}

/// What an event carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EventBody {
    /// Runs that are new or changed.
    Runs(Vec<RunView>),
    /// A run, and those of its steps that are new or changed.
    Run {
        /// The run.
        run: RunView,
        /// The steps.
        steps: Vec<StepView>,
    },
    /// More lines.
    Log(LogLines),
    /// The daemon's figures.
    Stats(Stats),
    /// A part of a list; rows that have not changed since the last event are named only.
    Rows(Box<Rows>),
    /// What was subscribed to cannot be shown (any more); the subscription has ended.
    Refused(super::Refused),
}
