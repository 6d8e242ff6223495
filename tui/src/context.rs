//! What every command needs: where the daemon is, which environment, how to fail.

use std::cell::Cell;
use std::io::Write as _;
use std::process::ExitCode;

use ibid::blocking::{Client, ClientError, connect_or_start};
use ibid::model::ExecutionId;
use ibid::paths::{Paths, ProcessEnvironment, Surroundings as _};
use ibid::protocol::{Call, Scope};

use crate::cli::Global;
use crate::project::{self, Project};

/// Exit code for a run that failed.
pub const FAILED: u8 = 1;
/// Exit code for a command that makes no sense.
pub const USAGE: u8 = 2;
/// Exit code where no daemon answers.
pub const NO_DAEMON: u8 = 3;
/// Exit code for a name or id that is not there.
pub const NOT_FOUND: u8 = 4;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub kind: String,
    pub message: String,
}

pub type Outcome = Result<ExitCode, Failure>;

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, kind: "usage".to_owned(), message: message.into() }
    }

    /// Tells it on standard error, as JSON if that was asked for.
    pub fn report(&self, json: bool) -> ExitCode {
        let text = if json {
            serde_json::json!({"error": {"kind": self.kind, "message": self.message}}).to_string()
        } else {
            format!("ibid: {}", crate::output::clean_lines(&self.message))
        };
        // Where standard error is gone, the exit code still tells.
        let _gone = writeln!(std::io::stderr(), "{text}");
        ExitCode::from(self.code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (code, kind) = match &error {
            ClientError::Refused(refused) => {
                let code = match refused.kind.as_str() {
                    "not_found" | "unknown_target" => NOT_FOUND,
                    "bad_request" | "not_a_workflow" | "not_a_sensor" | "unknown_method" | "parse_error"
                    | "invalid_request" => USAGE,
                    _ => FAILED,
                };
                (code, refused.kind.clone())
            }
            ClientError::Version { .. } => (NO_DAEMON, "wrong_version".to_owned()),
            ClientError::NoDaemon(_) | ClientError::Connect { .. } | ClientError::Start(_) | ClientError::Lost(_) => {
                (NO_DAEMON, "no_daemon".to_owned())
            }
        };
        Self { code, kind, message: error.to_string() }
    }
}

/// What a command runs in.
pub struct Context {
    pub paths: Paths,
    pub scope: Scope,
    /// Whether a project or environment was named for this command.
    pub scope_named: bool,
    pub json: bool,
    pub no_start: bool,
    /// The execution that this command was started inside of.
    pub caller: Option<ExecutionId>,
    pub project: Option<Project>,
    /// Whether this command has started the daemon.
    pub started: Cell<bool>,
}

impl Context {
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let paths = Paths::find(&ProcessEnvironment).map_err(Failure::usage)?;
        let here = std::env::current_dir().unwrap_or_default();
        let project = project::find(&here).map_err(Failure::usage)?;
        let named = |given: &Option<String>, of_file: Option<&String>| {
            given
                .clone()
                .filter(|name| !name.is_empty())
                .or_else(|| of_file.cloned())
                .unwrap_or_else(|| "default".to_owned())
        };
        let scope = Scope {
            project: named(&global.project, project.as_ref().and_then(|project| project.project.as_ref())),
            environment: named(&global.environment, project.as_ref().and_then(|project| project.environment.as_ref())),
        };
        let caller = ProcessEnvironment.variable("IBID_EXECUTION").and_then(|id| id.parse().ok());
        Ok(Self {
            paths,
            scope,
            scope_named: [&global.project, &global.environment]
                .iter()
                .any(|name| name.as_ref().is_some_and(|name| !name.is_empty())),
            json: global.json,
            no_start: global.no_start,
            caller,
            project,
            started: Cell::new(false),
        })
    }

    /// The same for another look at the project file.
    pub fn again(&self) -> Self {
        Self {
            paths: self.paths.clone(),
            scope: self.scope.clone(),
            scope_named: self.scope_named,
            json: self.json,
            no_start: self.no_start,
            caller: self.caller,
            project: None,
            started: Cell::new(false),
        }
    }

    /// Where targets are looked for while a command is still being typed.
    pub fn for_completion() -> Option<Scope> {
        let named = |name: &str| ProcessEnvironment.variable(name).filter(|name| !name.is_empty());
        let project = project::find(&std::env::current_dir().ok()?).ok().flatten().unwrap_or_default();
        let usual = Scope::default();
        Some(Scope {
            project: named("IBID_PROJECT").or(project.project).unwrap_or(usual.project),
            environment: named("IBID_ENVIRONMENT").or(project.environment).unwrap_or(usual.environment),
        })
    }

    /// Connects; starts the daemon if none answers, and says so.
    pub fn connect(&self) -> Result<Client, ClientError> {
        if self.no_start {
            return Client::connect(&self.paths.socket);
        }
        let start = connect_or_start(&self.paths)?;
        if let Some(pid) = start.started {
            self.started.set(true);
            // Where standard error is gone there is nobody to tell.
            let _gone = writeln!(
                std::io::stderr(),
                "ibid: started the daemon (pid {pid}, data in {})",
                self.paths.data.display()
            );
        }
        Ok(start.client)
    }

    /// One request, one reply.
    pub fn ask<C: Call>(&self, call: C) -> Result<C::Reply, Failure> {
        Ok(self.connect()?.call(call)?)
    }
}
