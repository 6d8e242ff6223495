//! Names of runs, steps and executions: `R12`, `R12:3`, `R12:3.1`.
//!
//! The same text is used everywhere (commands, protocol, terminal client), and
//! the numbers, big-endian, are the store's key order.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A run: what starting a workflow makes. Numbered from 1 in a data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// One call of a target within a run, numbered from 1; step 1 is the run's own target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId {
    /// The run it belongs to.
    pub run: RunId,
    /// Its number within the run, from 1.
    pub step: u32,
}

/// One attempt at a step, numbered from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId {
    /// The step that is attempted.
    pub step: StepId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
}

/// Any of the three, as a person types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    /// `R12`
    Run(RunId),
    /// `R12:3`
    Step(StepId),
    /// `R12:3.1`
    Execution(ExecutionId),
}

impl From<RunId> for Id {
    fn from(id: RunId) -> Self {
        Self::Run(id)
    }
}

impl From<StepId> for Id {
    fn from(id: StepId) -> Self {
        Self::Step(id)
    }
}

impl From<ExecutionId> for Id {
    fn from(id: ExecutionId) -> Self {
        Self::Execution(id)
    }
}

impl RunId {
    /// The step that is the run's own target.
    #[must_use]
    pub const fn root(self) -> StepId {
        StepId { run: self, step: 1 }
    }
}

impl StepId {
    /// An attempt at this step.
    #[must_use]
    pub const fn attempt(self, attempt: u32) -> ExecutionId {
        ExecutionId { step: self, attempt }
    }

    /// The key under which the store keeps it: 12 bytes, in the order of the numbers.
    #[must_use]
    pub fn key(self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&self.run.0.to_be_bytes());
        key[8..].copy_from_slice(&self.step.to_be_bytes());
        key
    }

    /// The inverse of [`StepId::key`]; `None` unless the key has 12 bytes.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let run = u64::from_be_bytes(key.get(..8)?.try_into().ok()?);
        let step = u32::from_be_bytes(key.get(8..)?.try_into().ok()?);
        Some(Self { run: RunId(run), step })
    }
}

impl Id {
    /// The run that it is, or is part of.
    #[must_use]
    pub const fn run(self) -> RunId {
        match self {
            Self::Run(run) => run,
            Self::Step(step) => step.run,
            Self::Execution(execution) => execution.step.run,
        }
    }

    /// The step that it names; of a run, its root.
    #[must_use]
    pub const fn step(self) -> StepId {
        match self {
            Self::Run(run) => run.root(),
            Self::Step(step) => step,
            Self::Execution(execution) => execution.step,
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}", self.0)
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.run, self.step)
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.step, self.attempt)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(id) => id.fmt(f),
            Self::Step(id) => id.fmt(f),
            Self::Execution(id) => id.fmt(f),
        }
    }
}

/// What is said of a text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an id: a run is R12, a step R12:3, an execution R12:3.1")]
pub struct NotAnId(pub String);

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let fail = || NotAnId(text.chars().take(60).collect());
        let number = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let value = part.parse::<u64>().ok().filter(|n| plain && *n > 0);
            value.ok_or_else(fail)
        };
        let small = |part: &str| number(part).and_then(|n| u32::try_from(n).map_err(|_| fail()));
        let rest = text.strip_prefix(['R', 'r']).unwrap_or(text);
        let Some((run, rest)) = rest.split_once(':') else {
            return Ok(Self::Run(RunId(number(rest)?)));
        };
        let run = RunId(number(run)?);
        Ok(match rest.split_once('.') {
            None => Self::Step(StepId { run, step: small(rest)? }),
            Some((step, attempt)) => Self::Execution(StepId { run, step: small(step)? }.attempt(small(attempt)?)),
        })
    }
}

macro_rules! text_in_json {
    ($type:ident, $wire:ty, $to:expr, $from:expr, $pick:pat => $picked:expr) => {
        impl FromStr for $type {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                match text.parse::<Id>()? {
                    $pick => Ok($picked),
                    _ => Err(NotAnId(text.to_owned())),
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    let wire: $wire = $to(self);
                    wire.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <$wire>::deserialize(deserializer).map($from)
                }
            }
        }
    };
}

text_in_json!(RunId, u64, |id: &RunId| id.0, RunId, Id::Run(id) => id);
text_in_json!(
    StepId,
    (u64, u32),
    |id: &StepId| (id.run.0, id.step),
    |(run, step)| StepId { run: RunId(run), step },
    Id::Step(id) => id
);
text_in_json!(
    ExecutionId,
    (u64, u32, u32),
    |id: &ExecutionId| (id.step.run.0, id.step.step, id.attempt),
    |(run, step, attempt)| StepId { run: RunId(run), step }.attempt(attempt),
    Id::Execution(id) => id
);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let (step, attempt) = match self {
            Self::Run(_) => (0, 0),
            Self::Step(step) => (step.step, 0),
            Self::Execution(execution) => (execution.step.step, execution.attempt),
        };
        (self.run().0, step, attempt).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom);
        }
        let (run, step, attempt) = <(u64, u32, u32)>::deserialize(deserializer)?;
        let run = RunId(run);
        Ok(match (step, attempt) {
            (0, _) => Self::Run(run),
            (_, 0) => Self::Step(StepId { run, step }),
            _ => Self::Execution(StepId { run, step }.attempt(attempt)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_it_is_written() {
        for text in ["R12", "R12:3", "R12:3.1"] {
            assert_eq!(text.parse::<Id>().unwrap().to_string(), text);
            let id: Id = text.parse().unwrap();
            let bytes = postcard::to_stdvec(&id).unwrap();
            assert_eq!(postcard::from_bytes::<Id>(&bytes).unwrap(), id);
        }
        assert_eq!("12:3".parse::<Id>().unwrap().to_string(), "R12:3");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "R", "R0", "R1:", "R1:0", "R1:2.", "R1.2", "x", "R+1", "R1:2.3.4", "R99999999999999999999"] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }

    #[test]
    fn keys_sort_as_the_numbers_do() {
        let step = |run, step| StepId { run: RunId(run), step };
        assert!(step(1, 300).key() < step(2, 1).key());
        assert!(step(2, 255).key() < step(2, 256).key());
        assert_eq!(StepId::from_key(&step(7, 9).key()), Some(step(7, 9)));
    }
}
