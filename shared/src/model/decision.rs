//! Why a call was executed, linked or taken from the cache.

use serde::{Deserialize, Serialize};

use super::{ExecutionId, Millis, Timestamp};

/// The verdict on a call, stored when it is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The result of an earlier execution was taken.
    Hit {
        /// The execution that really ran.
        source: ExecutionId,
        /// How old its result was then.
        age: Millis,
        /// How long it had run: the time saved.
        duration: Millis,
    },
    /// Joined an unfinished execution of the same call.
    Linked {
        /// The execution it waits for.
        leader: ExecutionId,
    },
    /// Caching is off for the call.
    Off,
    /// Started by hand, so no caller evaluated the cache settings.
    ByHand,
    /// A re-run, which ignores the cache.
    Forced,
    /// An automatic retry, which never looks up.
    Retry {
        /// The attempt that had failed.
        after: ExecutionId,
    },
    /// Nothing with this identity could be used.
    Miss(Miss),
    /// An argument has no digest that stays the same between processes.
    NoStableDigest {
        /// Position of the first such argument, from 0.
        argument: u32,
    },
    /// Joined to another, or replaced by it, it would have waited for itself, so it was really queued.
    WouldWaitForItself {
        /// The execution it had been linked to, or replaced by.
        leader: ExecutionId,
    },
    /// It has a defer key and is not due yet: it is looked up when it is.
    Deferring,
    /// A sensor that had ended and was started again.
    Restarted {
        /// The attempt that had ended.
        after: ExecutionId,
    },
}

/// What stood in the way of a hit, as far as it was known at the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Miss {
    /// No result of this identity.
    NoMatch,
    /// The newest result was older than the maximum age.
    TooOld {
        /// The execution that made it.
        source: ExecutionId,
        /// Its age then.
        age: Millis,
        /// The maximum that was asked for.
        max_age: Millis,
    },
    /// The only earlier execution did not succeed.
    LastFailed {
        /// That execution.
        execution: ExecutionId,
    },
    /// A result exists in an environment that this one does not look into.
    OtherEnvironment {
        /// Its execution.
        execution: ExecutionId,
        /// That environment's name.
        environment: String,
    },
    /// The only candidate is a caller of this call.
    OwnAncestor {
        /// That caller.
        execution: ExecutionId,
    },
    /// The newest result was taken out of the cache by hand.
    Forgotten {
        /// The execution that made it.
        execution: ExecutionId,
        /// When it was forgotten, ms since 1970.
        at: Timestamp,
    },
}

impl Decision {
    /// The stable name of the kind, for scripts.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Hit { .. } => "hit",
            Self::Linked { .. } => "linked",
            Self::Off => "off",
            Self::ByHand => "by_hand",
            Self::Forced => "forced",
            Self::Retry { .. } => "retry",
            Self::Miss(Miss::NoMatch) => "no_match",
            Self::Miss(Miss::TooOld { .. }) => "too_old",
            Self::Miss(Miss::LastFailed { .. }) => "last_failed",
            Self::Miss(Miss::OtherEnvironment { .. }) => "other_environment",
            Self::Miss(Miss::OwnAncestor { .. }) => "own_ancestor",
            Self::Miss(Miss::Forgotten { .. }) => "forgotten",
            Self::NoStableDigest { .. } => "no_stable_digest",
            Self::WouldWaitForItself { .. } => "would_wait_for_itself",
            Self::Deferring => "deferring",
            Self::Restarted { .. } => "restarted",
        }
    }
}
