//! A repository: a named collection of targets that one program hosts.

use serde::{Deserialize, Serialize};

use super::{Shell, TargetSpec};

/// How the daemon starts the program that hosts a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Launch {
    /// The Python module to import; empty where the program hosts the repository itself.
    pub module: String,
    /// The interpreter, or the program that hosts the repository; an absolute path.
    pub program: String,
    /// Working directory, first on the module path.
    pub directory: String,
    /// The environment variables of the shell that registered it.
    pub variables: Vec<(String, String)>,
    /// Whether executors may be forked from a warm process.
    pub fork: bool,
}

/// What an environment knows of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Repository {
    /// Number of the environment that it was registered in.
    pub environment: u32,
    /// Its name, e.g. `news.repo`.
    pub name: String,
    /// Its targets by name.
    pub targets: Vec<TargetSpec>,
    /// How many executions run at once; waiting ones do not count.
    pub concurrency: u32,
    /// How to start workers; absent where a worker attaches by itself.
    pub launch: Option<Launch>,
    /// Counts registrations: executors of an older one take no further work.
    pub generation: u64,
    /// The shell tasks that the daemon runs itself.
    pub shell: Option<Shell>,
}

impl Launch {
    /// Whether the program hosts the repository itself: a single process takes many executions at once.
    #[must_use]
    pub const fn is_own_program(&self) -> bool {
        self.module.is_empty()
    }
}

impl Repository {
    /// A target by its name within the repository.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&TargetSpec> {
        self.targets.iter().find(|target| target.name == name)
    }
}
