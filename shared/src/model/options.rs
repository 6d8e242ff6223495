//! What a target asks for, and what a call makes of it.

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970, UTC.
pub type Timestamp = i64;

/// A length of time in milliseconds.
pub type Millis = u64;

/// The cache setting: off, on, or on with a maximum age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Cache {
    /// No identity: neither hits nor is hit.
    #[default]
    Off,
    /// Results of any age.
    On,
    /// Results at most this old; 0 accepts no finished one but still links.
    MaxAge(Millis),
}

impl Cache {
    /// The maximum age, if there is one.
    #[must_use]
    pub const fn max_age(self) -> Option<Millis> {
        match self {
            Self::MaxAge(age) => Some(age),
            Self::Off | Self::On => None,
        }
    }
}

/// How often a failed, timed out or abandoned execution is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Retries {
    /// Further attempts after the first.
    pub limit: u32,
    /// Wait before the first retry.
    #[serde(default)]
    pub delay_min: Millis,
    /// Wait before the last retry; in between it grows linearly.
    #[serde(default)]
    pub delay_max: Millis,
}

impl Retries {
    /// The wait before retry `n` (from 1), linear from the first to the last.
    #[must_use]
    pub fn delay(&self, n: u32) -> Millis {
        if self.limit <= 1 || self.delay_max <= self.delay_min {
            return self.delay_min;
        }
        let span = u128::from(self.delay_max - self.delay_min);
        let passed = u128::from(n.saturating_sub(1).min(self.limit - 1));
        let extra = span * passed / u128::from(self.limit - 1);
        self.delay_min + u64::try_from(extra).unwrap_or(u64::MAX)
    }
}

/// Which of a call's arguments must have ended before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// None.
    #[default]
    No,
    /// Every call that an argument refers to.
    All,
    /// The calls that the arguments at these positions refer to, from 0.
    Positions(Vec<u32>),
}

impl Wait {
    /// Whether the calls in the argument at this position are waited for.
    #[must_use]
    pub fn covers(&self, position: usize) -> bool {
        match self {
            Self::No => false,
            Self::All => true,
            Self::Positions(positions) => positions.iter().any(|other| usize::try_from(*other) == Ok(position)),
        }
    }
}

/// Whether a call can be answered with an earlier one of its own run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Memo {
    /// As the workflow of the run says.
    #[default]
    Inherit,
    /// Never.
    Off,
    /// One with the same arguments.
    Arguments,
    /// One for which the target's memo function gave this string.
    Key(String),
}

/// A newer call of the same target and key replaces this one as long as it is queued.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Defer {
    /// The string that the target's defer function gave; `None` where all calls of the target count as one.
    #[serde(default)]
    pub key: Option<String>,
    /// A burst of calls is put off no longer than this after its first.
    #[serde(default)]
    pub max_wait: Option<Millis>,
}

/// The options of one call, evaluated by the caller when it calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CallOptions {
    /// Whether and how old a result may be reused.
    pub cache: Cache,
    /// The string that the target's own key function gave.
    pub cache_key: Option<String>,
    /// In place of `<repository>:<target>`.
    pub cache_namespace: Option<String>,
    /// Results of another version are not reused.
    pub cache_version: Option<String>,
    /// Further attempts.
    pub retries: Retries,
    /// Earliest start after submission.
    pub delay: Millis,
    /// Longest time from assignment, waiting included.
    pub timeout: Option<Millis>,
    /// Starts when these have ended, well or badly.
    pub wait: Wait,
    /// Whether an earlier call of the same run answers it.
    pub memo: Memo,
    /// Whether a newer call replaces it while it is queued.
    pub defer: Option<Defer>,
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Can be started by hand; called from elsewhere it gets a run of its own.
    Workflow,
    /// Called by other targets.
    Task,
    /// Kept running once it was started by hand; it starts workflows.
    Sensor,
    /// A shell command: can be started by hand; called from elsewhere it is a plain step.
    Shell,
}

impl TargetKind {
    /// Whether `run` and `submit` can start it.
    #[must_use]
    pub const fn starts_by_hand(self) -> bool {
        matches!(self, Self::Workflow | Self::Shell)
    }

    /// The stable name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Workflow => "workflow",
            Self::Task => "task",
            Self::Sensor => "sensor",
            Self::Shell => "shell",
        }
    }
}

/// How a parameter takes arguments (the words of Python's `inspect`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    /// By position only.
    PositionalOnly,
    /// By position or name.
    PositionalOrKeyword,
    /// `*args`: the rest by position, one list.
    VarPositional,
    /// By name only.
    KeywordOnly,
    /// `**kwargs`: the rest by name, one object.
    VarKeyword,
    /// Not given by the caller: the daemon works it out, as the content of a shell task's inputs.
    Computed,
}

/// One parameter of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// How it takes arguments.
    pub kind: ParameterKind,
    /// The value it has when none is given. In JSON a `null` that is there is the value null; a
    /// parameter without a default has no such member.
    #[serde(default, deserialize_with = "present")]
    pub default: Option<super::Json>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<super::Json>, D::Error> {
    if deserializer.is_human_readable() {
        super::Json::deserialize(deserializer).map(Some)
    } else {
        Option::deserialize(deserializer)
    }
}

/// A target as its repository declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TargetSpec {
    /// Name within the repository.
    pub name: String,
    /// Workflow, task, sensor or shell command.
    pub kind: TargetKind,
    /// In the order of the signature.
    pub parameters: Vec<Parameter>,
    /// The options as declared; `cache_key` is always absent here.
    #[serde(default)]
    pub options: CallOptions,
    /// Whether it has a key function, which only a caller can evaluate.
    #[serde(default)]
    pub own_key: bool,
    /// First paragraph of its documentation.
    #[serde(default)]
    pub doc: Option<String>,
    /// Digest of its source code, to notice that it has changed.
    #[serde(default)]
    pub source: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_of_null_is_a_default() {
        let read = |text: &str| serde_json::from_str::<Parameter>(text).unwrap();
        let with = read(r#"{"name":"a","kind":"keyword_only","default":null}"#);
        assert_eq!(with.default.as_ref().map(super::super::Json::as_str), Some("null"));
        let without = read(r#"{"name":"a","kind":"keyword_only"}"#);
        assert_eq!(without.default, None);
        for parameter in [with, without] {
            let bytes = postcard::to_stdvec(&parameter).unwrap();
            assert_eq!(postcard::from_bytes::<Parameter>(&bytes).unwrap(), parameter);
        }
    }

    #[test]
    fn the_delay_between_retries_grows_linearly_from_the_first_to_the_last() {
        let retries = Retries { limit: 5, delay_min: 1000, delay_max: 5000 };
        let delays: Vec<_> = (1..=6).map(|n| retries.delay(n)).collect();
        assert_eq!(delays, [1000, 2000, 3000, 4000, 5000, 5000]);
        assert_eq!(Retries { limit: 1, delay_min: 7, delay_max: 9 }.delay(1), 7);
        assert_eq!(Retries { limit: u32::MAX, delay_min: 0, delay_max: u64::MAX }.delay(u32::MAX), u64::MAX);
    }
}
