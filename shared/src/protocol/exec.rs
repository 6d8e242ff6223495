//! Shell commands: `exec`.

use serde::{Deserialize, Serialize};

use super::{Outcome, Scope, UseCache};
use crate::model::{ExecutionId, Json, RunId, Stdin, StepId, Word};

messages! {
    /// Runs a command, or takes or joins what it did before. It is tied to the connection: when that ends,
    /// the command is stopped unless somebody else waits for it.
    Exec {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// Whether an environment that does not exist is created; otherwise only `default/default` is.
        #[serde(default)]
        create: bool,
        /// The program and its arguments.
        command: Vec<Word>,
        /// Where it runs, absolute; part of the key.
        directory: Word,
        /// All its environment variables.
        #[serde(default)]
        variables: Vec<(Word, Word)>,
        /// The mask of permissions for new files.
        #[serde(default = "usual_umask")]
        umask: u32,
        /// What it reads.
        #[serde(default)]
        stdin: Stdin,
        /// The text that it reads, with `stdin` as `"argument"`: a string or bytes; part of the key.
        #[serde(default)]
        stdin_value: Option<Json>,
        /// Whether an earlier result is taken, and how old it may be.
        #[serde(default)]
        cache: Option<UseCache>,
        /// Whether an end with another code than 0 is a result that later calls take, too.
        #[serde(default)]
        cache_failures: bool,
        /// In place of command, directory, variables and inputs.
        #[serde(default)]
        key: Option<String>,
        /// In place of `exec:<program>`.
        #[serde(default)]
        namespace: Option<String>,
        /// Patterns of files, relative to the directory, whose content is part of the key.
        #[serde(default)]
        inputs: Vec<String>,
        /// Names of variables whose values are part of the key.
        #[serde(default)]
        key_variables: Vec<String>,
        /// A resend with the same token gives the same run.
        #[serde(default)]
        token: Option<String>,
        /// The execution on whose behalf it is run, if it comes from inside one.
        #[serde(default)]
        caller: Option<ExecutionId>,
    }
    /// What became of it at once.
    ExecStarted {
        /// Its run; of a call from inside an execution, the caller's.
        run: RunId,
        /// Its step: `result` waits for its outcome.
        step: StepId,
        /// The outcome, where an earlier result was taken.
        #[serde(default)]
        outcome: Option<Outcome>,
        /// The file in which what it writes can be read as it comes, from the beginning: lines of JSON.
        #[serde(default)]
        recording: Option<String>,
    }
    /// Hands a signal to a command that was started on this connection, or withdraws from it where
    /// somebody else waits for it, too.
    ExecSignal {
        /// Its step.
        step: StepId,
        /// The signal's number.
        signal: i32,
    }
    /// What came of a signal.
    ExecSignalled {
        /// Whether the command got it; otherwise it goes on for others.
        delivered: bool,
    }
}

const fn usual_umask() -> u32 {
    0o022
}
