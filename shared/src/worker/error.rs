//! What can go wrong in a task.

use std::fmt;

use crate::client::ClientError;
use crate::model::{ExecutionId, Failure, State};
use crate::protocol::{Outcome, Refused};

/// How the account of what failed in another execution begins.
const ELSEWHERE: &str = "in execution ";

/// A long text by its beginning.
fn cut(text: &str) -> String {
    text.chars().take(10_000).collect()
}

/// What tasks return, and what calls of them give.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a task, or a call of one, did not succeed.
///
/// Any [`std::error::Error`] becomes one by `?`, with its type's name as [`kind`](Self::kind) and its causes in
/// the [`chain`](Self::chain). The error of a call has what the task that really failed has said, whatever it was
/// written in, and which [`execution`](Self::execution) that was.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: String,
    message: String,
    chain: Option<String>,
    execution: Option<ExecutionId>,
    state: State,
    /// In the form of the worker it came from, which can rebuild it.
    original: Option<crate::model::Json>,
}

impl Error {
    /// An error with a kind, e.g. `RateLimited`, and a message.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self::of(Failure::new(kind, message), State::Failed, None)
    }

    /// An error of nothing but a message.
    #[must_use]
    pub fn message(message: impl Into<String>) -> Self {
        Self::new("Error", message)
    }

    /// A panic, and where it came from.
    pub(super) fn panic(message: String, place: Option<String>) -> Self {
        Self::of(Failure { traceback: place, ..Failure::new("panic", message) }, State::Failed, None)
    }

    fn of(failure: Failure, state: State, execution: Option<ExecutionId>) -> Self {
        let Failure { kind, message, traceback, original } = failure;
        Self { inner: Box::new(Inner { kind, message, chain: traceback, execution, state, original }) }
    }

    /// The error of a call that ended without a value.
    pub(super) fn of_outcome(outcome: Outcome) -> Self {
        let failure = outcome.error.unwrap_or_else(|| Failure::new("Error", format!("it is {}", outcome.state.name())));
        Self::of(failure, outcome.state, outcome.execution)
    }

    /// The type of the error as the program names it that failed, e.g. `ParseIntError` or `ValueError`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.inner.kind
    }

    /// What it says, without its kind and causes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.inner.message
    }

    /// Its causes, or the traceback of a task in another language, as text.
    #[must_use]
    pub fn chain(&self) -> Option<&str> {
        self.inner.chain.as_deref()
    }

    /// The execution that really failed, of the error of a call.
    #[must_use]
    pub fn execution(&self) -> Option<ExecutionId> {
        self.inner.execution
    }

    /// How it ended: failed, timed out, abandoned or cancelled.
    #[must_use]
    pub const fn state(&self) -> State {
        self.inner.state
    }

    /// Whether it was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.state == State::Cancelled
    }

    /// As the daemon is told: an account that ends with what went wrong, as in other languages. What failed
    /// elsewhere and is handed on says where that was.
    pub(super) fn failure(&self) -> Failure {
        let inner = &self.inner;
        let chain = inner.chain.as_deref().map(str::trim_end).filter(|chain| !chain.is_empty());
        let told_before = chain.is_some_and(|chain| chain.starts_with(ELSEWHERE));
        let from = inner.execution.filter(|_| !told_before).map(|execution| format!("{ELSEWHERE}{execution}"));
        let said = self.to_string();
        let last = (!chain.is_some_and(|chain| chain.ends_with(&said))).then_some(said.as_str());
        let account = [from.as_deref(), chain, last].into_iter().flatten().collect::<Vec<_>>().join("\n");
        Failure {
            kind: inner.kind.clone(),
            message: cut(&inner.message),
            traceback: Some(cut(&account)),
            original: inner.original.clone(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner.kind.as_str() {
            "Error" => f.write_str(&self.inner.message),
            kind => write!(f, "{kind}: {}", self.inner.message),
        }
    }
}

impl fmt::Debug for Error {
    /// Everything that is known, as a `main` that returns it prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let account = self.failure().traceback.unwrap_or_default();
        let said = self.to_string();
        match account.strip_suffix(&said).map(str::trim_end) {
            Some("") => Ok(()),
            rest => write!(f, "\n{}", rest.unwrap_or(&account)),
        }
    }
}

/// The name of a type without its module and parameters.
fn short_name(name: &'static str) -> &'static str {
    let plain = name.split('<').next().unwrap_or(name);
    plain.rsplit("::").next().unwrap_or(plain)
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(format!("caused by: {error}"));
            cause = error.source();
        }
        let mut failure = Failure::new(short_name(std::any::type_name::<E>()), error.to_string());
        failure.traceback = (!causes.is_empty()).then(|| causes.join("\n"));
        Self::of(failure, State::Failed, None)
    }
}

/// What the daemon refuses has the daemon's word for it as its kind.
pub(super) fn refused(error: ClientError) -> Error {
    match error {
        ClientError::Refused(Refused { kind, message }) => Error::new(&kind, message),
        other => Error::from(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_becomes_one_with_its_type_as_kind_and_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("no price for {0}")]
        struct NoPrice(u32, #[source] std::num::ParseIntError);

        let read = || -> Result<u32> { Ok("x".parse::<u32>().map_err(|error| NoPrice(7, error))?) };
        let error = read().unwrap_err();
        assert_eq!((error.kind(), error.text()), ("NoPrice", "no price for 7"));
        assert_eq!(error.chain(), Some("caused by: invalid digit found in string"));
        assert_eq!(error.to_string(), "NoPrice: no price for 7");
        assert_eq!(short_name(std::any::type_name::<Option<std::io::Error>>()), "Option");
    }

    #[test]
    fn the_error_of_a_call_says_where_it_happened_when_it_is_handed_on() {
        let failure = Failure { traceback: Some("Traceback …".to_owned()), ..Failure::new("ValueError", "no") };
        let execution = "R1:2.1".parse::<crate::model::Id>().ok();
        let Some(crate::model::Id::Execution(execution)) = execution else { panic!("{execution:?}") };
        let error = Error::of_outcome(Outcome {
            state: State::Failed,
            value: None,
            error: Some(failure),
            execution: Some(execution),
        });
        assert_eq!(error.failure().traceback.as_deref(), Some("in execution R1:2.1\nTraceback …\nValueError: no"));
        assert_eq!(error.failure().kind, "ValueError");
    }
}
