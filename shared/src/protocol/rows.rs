//! Parts of lists: the daemon sorts, filters and counts, a client holds the rows around one of them.

use serde::{Deserialize, Serialize};

use super::cache::{KeyLine, NamespaceView};
use super::messages::{LogLine, Scope};
use super::views::{QueueGroup, RunView, StepView};
use crate::model::{ExecutionId, Id, Millis, RunId, State, StepId, Timestamp};

messages! {
    /// Asks for a part of a list.
    GetRows {
        /// Which list.
        list: List,
        /// Words that must occur, and `field:value`: `state:failed age:<1h key:9f3 target:fetch`.
        #[serde(default)]
        filter: String,
        /// By what it is sorted; the first of [`Rows::sorts`] if absent.
        #[serde(default)]
        sort: Option<String>,
        /// Whether the order is turned around.
        #[serde(default)]
        reverse: bool,
        /// The row around which others are wanted.
        #[serde(default)]
        anchor: Anchor,
        /// How many before it.
        #[serde(default)]
        before: u32,
        /// How many after it; together at most 2000.
        #[serde(default = "some_rows")]
        after: u32,
    }
    /// A part of a list.
    Rows {
        /// How many rows match the filter.
        total: u64,
        /// How many there are without it.
        all: u64,
        /// The place of the first row that is here, from 0.
        first: u64,
        /// The place of the anchor; absent if nothing is there or nothing was found.
        at: Option<u64>,
        /// The rows in order.
        rows: Vec<Row>,
        /// By what the list can be sorted.
        sorts: Vec<String>,
        /// What the rows are about.
        head: Head,
    }
    /// A step in a run's tree.
    TreeStep {
        /// The step.
        step: StepView,
        /// The branches before it, e.g. `│ ├`.
        branches: String,
        /// Whether it called others.
        has_children: bool,
    }
    /// Calls that their caller made in one group.
    TreeGroup {
        /// Its name.
        name: String,
        /// The first of the calls.
        first: StepId,
        /// Who made them.
        caller: Option<StepId>,
        /// How many.
        calls: u32,
        /// How many are in which state, as [`State`] counts for the eye.
        states: Vec<(State, u32)>,
        /// The sum of their run times.
        spent: Millis,
        /// The branches before it.
        branches: String,
        /// Whether its calls follow.
        unfolded: bool,
    }
    /// A key with its use.
    KeyUse {
        /// The key and its newest execution.
        line: KeyLine,
        /// How often it really ran.
        executed: u64,
        /// How often its results were taken.
        hits: u64,
        /// What that saved.
        saved: Millis,
        /// When it was last run or taken.
        used: Timestamp,
        /// Bytes of the newest result.
        size: u64,
        /// Whether pruning leaves it alone.
        pinned: bool,
        /// Whether it was taken out of the look-up by hand.
        forgotten: bool,
    }
    /// An execution that ran, joined or took a result of a key.
    KeyExecution {
        /// Which.
        execution: ExecutionId,
        /// Its state.
        state: State,
        /// The workflow of its run.
        run: String,
        /// When it was created.
        created: Timestamp,
        /// How long it ran itself.
        duration: Option<Millis>,
        /// Whose result it took, or whom it waits for.
        link: Option<ExecutionId>,
        /// What it did for the key, in words.
        note: String,
    }
    /// A line of a log.
    NumberedLine {
        /// Its number in the whole log, from 0.
        number: u64,
        /// The line.
        line: LogLine,
    }
}

/// Folded and unfolded parts of a run's tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Folds {
    /// Steps with what they called folded away.
    pub steps: Vec<StepId>,
    /// Groups that are unfolded, by their first step.
    pub groups: Vec<StepId>,
    /// Whether all groups are.
    pub all_groups: bool,
}

const fn some_rows() -> u32 {
    200
}

/// A list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum List {
    /// Runs, newest first.
    Runs {
        /// Of one environment, or of all.
        #[serde(default)]
        scope: Option<Scope>,
    },
    /// The steps of a run as a tree.
    Steps {
        /// Which run.
        run: RunId,
        /// What is folded.
        #[serde(default)]
        folds: Folds,
    },
    /// What waits, one row for each key.
    Queue {},
    /// Namespaces, the last used first.
    Namespaces {
        /// Where.
        #[serde(default)]
        scope: Scope,
    },
    /// The keys of a namespace, newest first.
    Keys {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// The namespace.
        namespace: String,
    },
    /// What ran, joined and took results of one key, newest first.
    Key {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// The key in hexadecimal (at least 6 digits), or the id of a step that has it.
        key: String,
    },
    /// The log of the execution that does the work for this one, oldest line first.
    Log {
        /// Which.
        id: Id,
    },
}

/// Where in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// Its first row, whichever that is.
    #[default]
    First,
    /// Its last row, whichever that is.
    Last,
    /// The row at a place, from 0.
    At(u64),
    /// A row, by [`Row::key`].
    Row {
        /// Its key.
        key: String,
        /// Where it was; what is there now stands in for a row that is gone.
        #[serde(default)]
        at: u64,
    },
    /// The next row after, or before, another that is sought.
    Next {
        /// Where the search starts; at an end of the list if absent.
        #[serde(default)]
        from: Option<String>,
        /// Towards the first row.
        #[serde(default)]
        back: bool,
        /// What is sought.
        what: Sought,
    },
}

/// What is sought in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sought {
    /// Something that failed.
    Failure,
    /// A text, in any case of letters.
    Text(String),
}

/// A row of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// As it was sent before on this subscription, by its key.
    Same(String),
    /// A run.
    Run(RunView),
    /// A step of a run.
    Step(Box<TreeStep>),
    /// A group of steps.
    Group(TreeGroup),
    /// Something that waits.
    Queue(QueueGroup),
    /// A namespace.
    Namespace(NamespaceView),
    /// A key.
    Key(KeyUse),
    /// An execution of a key.
    Execution(KeyExecution),
    /// A line of a log.
    Line(NumberedLine),
}

/// What the rows of a list are about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Nothing further.
    #[default]
    None,
    /// The run whose steps they are.
    Run {
        /// It.
        run: Box<RunView>,
        /// What is folded: as asked, but for what would hide the anchor.
        folds: Folds,
    },
    /// The key whose executions they are.
    Key(Box<KeySummary>),
    /// The execution whose log it is.
    Log {
        /// It.
        execution: ExecutionId,
        /// Lines that were dropped because the log was over its limit.
        dropped: u64,
    },
}

messages! {
    /// What a key is doing now.
    KeySummary {
        /// In hexadecimal.
        key: String,
        /// The namespace.
        namespace: String,
        /// The version.
        version: Option<String>,
        /// A target that has it.
        target: String,
        /// Its arguments, short.
        arguments: String,
        /// The result that would be taken now at any age.
        usable: Option<ExecutionId>,
        /// When that was completed, ms since 1970.
        completed: Option<Timestamp>,
        /// The execution that is unfinished.
        unfinished: Option<ExecutionId>,
        /// How many wait for that.
        followers: u32,
        /// Whether pruning leaves it alone.
        pinned: bool,
        /// Whether results were taken out of the look-up by hand.
        forgotten: bool,
    }
}

impl Row {
    /// What the row is, over every change of the list.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Same(key) => key.clone(),
            Self::Run(run) => run.id.to_string(),
            Self::Step(row) => row.step.id.to_string(),
            Self::Group(group) => group_key(group.first),
            Self::Queue(group) => group.execution.to_string(),
            Self::Namespace(space) => space.namespace.clone(),
            Self::Key(row) => row.line.key.clone(),
            Self::Execution(row) => row.execution.to_string(),
            Self::Line(line) => line.number.to_string(),
        }
    }

    /// The step that it is or stands for.
    #[must_use]
    pub fn step(&self) -> Option<&StepView> {
        match self {
            Self::Step(row) => Some(&row.step),
            _ => None,
        }
    }
}

/// The key of a group's row.
#[must_use]
pub fn group_key(first: StepId) -> String {
    format!("{first} group")
}
