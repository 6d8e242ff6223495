//! `completions` and `man`: what shells and manuals want to know.
//!
//! A shell's script asks `ibid` itself what fits; targets and ids come from the
//! daemon, if one runs.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::CompletionCandidate;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use ibid::blocking::Client;
use ibid::model::{RunId, State};
use ibid::paths::{Paths, ProcessEnvironment};
use ibid::protocol::{ListRuns, ListSteps, ListTargets, length_in_words};

use crate::cli::{Cli, Shell};
use crate::context::{Context, Failure, Outcome};
use crate::output;

/// The variable by which a shell's script asks.
pub const VARIABLE: &str = "IBID_COMPLETE";

/// How many runs are offered.
const RUNS_MAX: u32 = 30;

pub fn completions(shell: Shell) -> Outcome {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "ibid", "ibid", "ibid", &mut script)
        .map_err(|error| Failure::usage(format!("the script cannot be made: {error}")))?;
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for each command into a directory.
pub fn man(directory: &Path) -> Outcome {
    let failed = |error: std::io::Error| {
        Failure::usage(format!("the manual cannot be written to {}: {error}", directory.display()))
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
    output::print(&format!("{}\n", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn connect() -> Option<Client> {
    Client::connect(&Paths::find(&ProcessEnvironment).ok()?.socket).ok()
}

/// Everything that is registered.
pub fn targets() -> Vec<CompletionCandidate> {
    ask(|| {
        let context = Context::for_completion()?;
        let listed = connect()?.call(ListTargets { scope: context }).ok()?;
        let candidates = listed.targets.into_iter().map(|target| {
            let about = target.doc.unwrap_or_else(|| target.kind.name().to_owned());
            CompletionCandidate::new(target.target).help(Some(about.into()))
        });
        Some(candidates.collect())
    })
}

/// The newest runs, and the steps of the newest.
pub fn ids() -> Vec<CompletionCandidate> {
    ask(|| {
        let mut client = connect()?;
        let request =
            ListRuns { scope: None, state: None, target: None, since: None, limit: Some(RUNS_MAX), cursor: None };
        let runs = client.call(request).ok()?.runs;
        let mut candidates: Vec<_> = runs
            .iter()
            .map(|run| {
                let about = format!("{} {}", run.target, run.state.name());
                CompletionCandidate::new(run.id.to_string()).help(Some(about.into()))
            })
            .collect();
        if let Some(newest) = runs.first() {
            let steps = steps_of(&mut client, newest.id)?;
            candidates.extend(steps);
        }
        Some(candidates)
    })
}

fn steps_of(client: &mut Client, run: RunId) -> Option<Vec<CompletionCandidate>> {
    let steps = client.call(ListSteps { run, limit: Some(100), from: None }).ok()?.steps;
    let candidates = steps.iter().map(|step| {
        let took = step.newest().and_then(|attempt| attempt.duration).map_or_else(String::new, length_in_words);
        let about = format!("{} {} {took}", step.target, step.state.name());
        CompletionCandidate::new(step.id.to_string()).help(Some(about.trim_end().to_owned().into()))
    });
    Some(candidates.collect())
}

pub fn states() -> Vec<CompletionCandidate> {
    State::ALL.iter().map(|state| CompletionCandidate::new(state.name())).collect()
}

/// Whoever completes does not wait for a daemon that does not answer.
fn ask(question: impl FnOnce() -> Option<Vec<CompletionCandidate>> + Send + 'static) -> Vec<CompletionCandidate> {
    let (send, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // It may come too late.
        let _late = send.send(question().unwrap_or_default());
    });
    answered.recv_timeout(Duration::from_millis(500)).unwrap_or_default()
}
