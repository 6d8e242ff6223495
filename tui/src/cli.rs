//! The commands and their options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::ArgValueCandidates;

use crate::commands::completions::{ids, states, targets};

/// Runs tasks and remembers their results.
///
/// A call that was made before is not made again: its result is reused. Without a command in a
/// terminal, the screens open.
#[derive(Parser)]
#[command(
    name = "ibid",
    version,
    after_help = "Start here:\n  ibid demo                     see it work\n  ibid register my.tasks        make a module's targets known\n  ibid run my.tasks/site        start a workflow\n  ibid why R1:2                 why did that run?\n\nExit codes: 0 done, 1 the run failed, 2 usage, 3 no daemon, 4 not found."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Args)]
pub struct Global {
    /// The project
    #[arg(short, long, global = true, value_name = "NAME", env = "IBID_PROJECT")]
    pub project: Option<String>,
    /// The environment within the project
    #[arg(short, long, global = true, value_name = "NAME", env = "IBID_ENVIRONMENT")]
    pub environment: Option<String>,
    /// Print JSON with stable field names
    #[arg(long, global = true)]
    pub json: bool,
    /// Lines instead of screens, for screen readers and simple terminals
    #[arg(long, global = true)]
    pub plain: bool,
    /// Fail where no daemon answers instead of starting one
    #[arg(long, global = true)]
    pub no_start: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Register the example repository, run it, and show it
    Demo,
    /// Make the targets of Python modules and of programs known
    #[command(
        after_help = "Examples:\n  ibid register news.repo --python .venv/bin/python\n  ibid register --bin target/release/news\n  ibid register                  everything that ibid.toml names"
    )]
    Register(Register),
    /// Register, register again whenever a file or program changes, and show what runs write
    #[command(
        after_help = "Example:\n  ibid dev news.repo        in one terminal, 'ibid run news.repo/site' in another"
    )]
    Dev(Register),
    /// Start a workflow, wait for it, and print its result
    #[command(
        after_help = "Examples:\n  ibid run news.repo/site\n  ibid run news.repo/digest '[\"times\",\"post\"]' --arg limit=3\n  ibid run news.repo/site --use-cache=10m\n  ibid run news.repo/site --explain"
    )]
    Run(Start),
    /// Start a workflow and print the run's id
    #[command(after_help = "Example:\n  run=$(ibid submit news.repo/site) && ibid result $run")]
    Submit(Start),
    /// Run a shell command as if directly, or take what it did before
    #[command(after_help = EXEC_HELP)]
    Exec(Exec),
    /// List the workflows and tasks that are registered
    #[command(after_help = "Example:\n  ibid targets --target news --state workflow")]
    Targets(List),
    /// List runs, newest first; prune them
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  ibid runs --state failed --since 2h\n  ibid runs --limit 100 --cursor R120\n  ibid runs prune --older-than 30d --dry-run"
    )]
    Runs {
        #[command(flatten)]
        list: List,
        #[command(subcommand)]
        command: Option<Runs>,
    },
    /// Show a run, step or execution
    Show {
        /// e.g. R12, R12:3 or R12:3.1
        #[arg(add = ArgValueCandidates::new(ids))]
        id: String,
        /// Show the calls of groups one by one
        #[arg(long)]
        all: bool,
    },
    /// Wait for a result and print it
    #[command(after_help = "Examples:\n  ibid result R12 | jq .\n  ibid result R12:3 --raw > page.html")]
    Result {
        /// e.g. R12 or R12:3
        #[arg(add = ArgValueCandidates::new(ids))]
        id: String,
        /// Print strings and bytes as they are, not as JSON
        #[arg(long)]
        raw: bool,
    },
    /// Say why something ran, joined another or took a result
    #[command(after_help = "Example:\n  ibid why R12:3")]
    Why {
        /// e.g. R12:3
        #[arg(add = ArgValueCandidates::new(ids))]
        id: String,
    },
    /// Force a step to run again
    #[command(
        after_help = "Examples:\n  ibid rerun R12:3 --wait\n  ibid rerun R12 --below --wait\n  ibid rerun R12 --explain"
    )]
    Rerun {
        /// e.g. R12:3; a run means its first step
        #[arg(add = ArgValueCandidates::new(ids))]
        id: String,
        /// Wait for it, and exit with 1 if it failed
        #[arg(long)]
        wait: bool,
        /// Force everything that it calls, too
        #[arg(long)]
        below: bool,
        /// Say what it would come to, alone and with everything below, and run nothing
        #[arg(long, conflicts_with = "wait")]
        explain: bool,
    },
    /// Say what differs between two executions
    #[command(after_help = "Example:\n  ibid diff R11:3 R12:3")]
    Diff {
        /// e.g. R12:3.1; of a run or step its newest
        #[arg(add = ArgValueCandidates::new(ids))]
        one: String,
        /// The other
        #[arg(add = ArgValueCandidates::new(ids))]
        other: String,
        /// Show what is equal, too
        #[arg(long)]
        all: bool,
    },
    /// Cancel a run, step or execution; what others wait for goes on
    #[command(after_help = "Example:\n  ibid cancel R12:3")]
    Cancel {
        /// e.g. R12 or R12:3
        #[arg(add = ArgValueCandidates::new(ids))]
        id: String,
        /// Stop it for everyone who waits for it
        #[arg(long)]
        force: bool,
    },
    /// Print what an execution wrote
    #[command(after_help = "Examples:\n  ibid logs R12:3 -f\n  ibid logs R12 --grep error")]
    Logs {
        /// e.g. R12:3; a run means all its executions
        #[arg(add = ArgValueCandidates::new(ids))]
        id: String,
        /// Go on until it has ended
        #[arg(short, long)]
        follow: bool,
        /// Only lines that contain this text, in any case of letters
        #[arg(long, value_name = "TEXT")]
        grep: Option<String>,
    },
    /// Print a run for other programs
    #[command(
        after_help = "Examples:\n  ibid export R12 --format chrome-trace > run.json    # open it in Perfetto\n  ibid export R12 --format dot | dot -Tsvg > run.svg"
    )]
    Export {
        /// e.g. R12
        #[arg(add = ArgValueCandidates::new(ids))]
        id: String,
        /// What is printed
        #[arg(long, value_enum, default_value = "json")]
        format: ExportFormat,
    },
    /// List what waits, and for what
    Queue(List),
    /// List worker processes
    Workers(List),
    /// List sensors and how they stand
    Sensors(List),
    /// Start and stop sensors
    #[command(subcommand)]
    Sensor(Sensor),
    /// Create and list environments
    #[command(subcommand)]
    Env(Env),
    /// Look into the cache
    #[command(subcommand)]
    Cache(Cache),
    /// Start and stop the daemon
    #[command(subcommand)]
    Daemon(Daemon),
    /// Keep the daemon running as a systemd user service
    #[command(subcommand)]
    Service(Service),
    /// Look at everything that can be wrong, and say how to mend it
    Doctor {
        /// Look through the whole store, too: every record, reference and value
        #[arg(long)]
        verify: bool,
    },
    /// Print a script that completes commands, targets and ids
    #[command(
        after_help = "Examples:\n  source <(ibid completions bash)        in ~/.bashrc\n  source <(ibid completions zsh)         in ~/.zshrc\n  ibid completions fish | source         in ~/.config/fish/config.fish"
    )]
    Completions {
        /// Of which shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write a manual page for each command
    Man {
        /// Where to, e.g. ~/.local/share/man/man1
        directory: PathBuf,
    },
    /// Send one raw request and print the reply; '-' reads requests from standard input, one a line
    #[command(after_help = "Examples:\n  ibid rpc ping\n  ibid rpc submit '{\"target\":\"news.repo/site\"}'")]
    Rpc {
        /// e.g. ping
        method: String,
        /// Parameters as JSON
        params: Option<String>,
    },
}

/// A shell that commands are completed in.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

#[derive(Subcommand)]
pub enum Service {
    /// Write socket and service units, enable them and start listening
    Install,
    /// Stop it and remove the units
    Uninstall,
    /// Say whether it is installed and runs
    Status,
}

/// What `export` prints.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum ExportFormat {
    /// The run and its steps, as the protocol has them
    Json,
    /// Trace events, for Perfetto and chrome://tracing
    ChromeTrace,
    /// A graph, for Graphviz
    Dot,
}

#[derive(Args)]
pub struct Register {
    /// Modules to import, e.g. news.repo; those of ibid.toml if none is named
    pub modules: Vec<String>,
    /// A program that hosts its tasks itself (Rust), e.g. target/release/my-tasks; may be given again
    #[arg(long = "bin", value_name = "PATH")]
    pub programs: Vec<PathBuf>,
    /// The interpreter [default: .venv/bin/python, $VIRTUAL_ENV or python3]
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Working directory of the workers, first on their module path [default: here]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Do not hand this shell's environment variables to the workers
    #[arg(long)]
    pub clean_env: bool,
    /// How many executions run at once [default: the number of processors, at least 4; of a program 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub concurrency: Option<u32>,
    /// Start every worker process afresh instead of forking them from a warm one
    #[arg(long)]
    pub no_fork: bool,
}

#[derive(Args)]
pub struct Start {
    /// e.g. news.repo/site
    #[arg(add = ArgValueCandidates::new(targets))]
    pub target: String,
    /// Arguments by position: JSON, or plain text where that does not parse
    #[arg(allow_negative_numbers = true)]
    pub arguments: Vec<String>,
    /// An argument by name
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    pub named: Vec<String>,
    /// Take an earlier result, and be one that later starts can take; at most this old (e.g. 10m)
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub use_cache: Option<String>,
    /// The cache key, for a target with a key function of its own
    #[arg(long, value_name = "KEY")]
    pub cache_key: Option<String>,
    /// Starting twice with the same key within a day gives the same run
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Say what would happen, and start nothing
    #[arg(long)]
    pub explain: bool,
}

const EXEC_HELP: &str = "\
Examples:
  ibid exec --cache=1h -- curl -s https://example.com/rates
  ibid exec --cache --input 'src/**/*.c' --env CFLAGS -- make -s

The key is the command line, the directory, what --env and --input name, and what standard input \
gives. The same command at the same time is run once, for all. A command that fails is run again the \
next time, unless --cache-failures. Standard input is read to its end with --cache; -n gives none. \
The command has no terminal.

Exit codes: the command's own; 126 and 127 as a shell's, 128+n for signal n; 125 for ibid's own failures.";

/// `exec` by itself.
#[derive(Parser)]
#[command(
    name = "ibid exec",
    version,
    about = "Run a shell command as if directly, or take what it did before",
    after_help = EXEC_HELP
)]
pub struct ExecAlone {
    #[command(flatten)]
    pub global: Global,
    #[command(flatten)]
    pub exec: Exec,
}

#[derive(Args)]
pub struct Exec {
    /// Take an earlier result, and be one that later calls can take; at most this old (e.g. 10m)
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub cache: Option<String>,
    /// Take failures from the cache, too
    #[arg(long)]
    pub cache_failures: bool,
    /// The key, in place of command line, directory, variables and inputs
    #[arg(short, long, value_name = "KEY")]
    pub key: Option<String>,
    /// Where the key belongs [default: exec:<program>]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Files whose content is part of the key, e.g. 'src/**/*.c'
    #[arg(long, value_name = "GLOB")]
    pub input: Vec<String>,
    /// A variable whose value is part of the key
    #[arg(long, value_name = "NAME")]
    pub env: Vec<String>,
    /// Give the command no standard input, and read none
    #[arg(short, long)]
    pub no_stdin: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// What every list takes.
#[derive(Args, Default)]
pub struct List {
    /// Only in this state, e.g. failed; of targets only of this kind
    #[arg(long, add = ArgValueCandidates::new(states))]
    pub state: Option<String>,
    /// Only targets that contain this text
    #[arg(long)]
    pub target: Option<String>,
    /// Only of the last, e.g. 2h
    #[arg(long, value_name = "AGE")]
    pub since: Option<String>,
    /// How many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Go on below this one, as the first column names it
    #[arg(long, value_name = "LAST")]
    pub cursor: Option<String>,
}

#[derive(Subcommand)]
pub enum Runs {
    /// Remove finished runs with their records, logs and what only they hold
    #[command(
        after_help = "Examples:\n  ibid runs prune --older-than 30d --dry-run\n  ibid runs prune --keep-latest 20 --namespace news.repo:site\n\nResults that later calls can take stay, as do pinned ones: 'ibid cache prune' removes those. Without -p and -e it is about all projects."
    )]
    Prune(Prune),
}

/// What may go: whatever fits all that is said.
#[derive(Args)]
pub struct Prune {
    /// Only what ended longer ago, e.g. 30d
    #[arg(long, value_name = "AGE")]
    pub older_than: Option<String>,
    /// Only of this namespace, e.g. news.repo:fetch; of runs that of their target
    #[arg(long, value_name = "NS")]
    pub namespace: Option<String>,
    /// The oldest, until what stays has at most so many bytes, e.g. 500MiB
    #[arg(long, value_name = "BYTES")]
    pub max_size: Option<String>,
    /// Not the newest so many of each namespace
    #[arg(long, value_name = "N")]
    pub keep_latest: Option<u32>,
    /// Say what would go and how much space it takes, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Subcommand)]
pub enum Cache {
    /// List namespaces, or the newest keys of one
    Ls {
        /// e.g. news.repo:fetch
        namespace: Option<String>,
        #[command(flatten)]
        list: List,
    },
    /// Hits, links, time saved and bytes
    Stats,
    /// Show one key: its results, executions and who took them
    Show {
        /// At least 6 of its digits, or the id of a step that has it
        key: String,
    },
    /// Take a key's results out of the look-up, so that the next call runs; their records stay
    Forget {
        /// At least 6 of its digits, or the id of a step that has it
        key: String,
        /// Put back what was forgotten
        #[arg(long)]
        undo: bool,
    },
    /// Remove remembered results; the records of the executions that made them stay
    #[command(
        after_help = "Examples:\n  ibid cache prune --older-than 30d --dry-run\n  ibid cache prune --max-size 2GiB\n\nPinned results stay, and those that a run has taken which is still there: 'ibid runs prune' removes runs. Without -p and -e it is about all projects."
    )]
    Prune(Prune),
    /// Keep a key's results from pruning
    Pin {
        /// At least 6 of its digits, or the id of a step that has it
        key: String,
    },
    /// Leave a key's results to pruning again
    Unpin {
        /// At least 6 of its digits, or the id of a step that has it
        key: String,
    },
}

#[derive(Subcommand)]
pub enum Sensor {
    /// Start a sensor and keep it running, from its checkpoint if it has run with these arguments before
    #[command(
        after_help = "Example:\n  ibid sensor start news.repo/watch '\"https://example.com/feed\"' --arg every=60"
    )]
    Start {
        /// e.g. news.repo/watch
        #[arg(add = ArgValueCandidates::new(targets))]
        target: String,
        /// Arguments by position: JSON, or plain text where that does not parse
        #[arg(allow_negative_numbers = true)]
        arguments: Vec<String>,
        /// An argument by name
        #[arg(long = "arg", value_name = "NAME=VALUE")]
        named: Vec<String>,
        /// Start with these arguments, whatever checkpoint there is
        #[arg(long)]
        fresh: bool,
    },
    /// Stop all instances of a sensor, for good
    Stop {
        /// e.g. news.repo/watch
        #[arg(add = ArgValueCandidates::new(targets))]
        target: String,
    },
}

#[derive(Subcommand)]
pub enum Env {
    /// Create an environment of the project, or give one another base
    #[command(
        after_help = "Example:\n  ibid -p news env create staging --base production\n\nLook-ups of results and targets fall through to the base; results are written only to the environment itself."
    )]
    Create {
        /// Its name
        name: String,
        /// The environment that look-ups fall through to
        #[arg(long, value_name = "NAME")]
        base: Option<String>,
    },
    /// List environments and their bases
    Ls,
}

#[derive(Subcommand)]
pub enum Daemon {
    /// Start it, if none runs
    Start,
    /// Let running work end, then stop it
    Stop {
        /// Do not wait for running work
        #[arg(long)]
        now: bool,
        /// How long to wait for running work, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
        drain: f64,
    },
    /// Stop it and start it again
    Restart,
    /// Say how it is
    Status,
}

impl ExecAlone {
    /// Reads the plainest form, `[--cache[=AGE]] [-n] -- COMMAND…`, without describing all options first;
    /// `None` for any other, which is for the parser. A command that is answered at once is so a
    /// tenth faster.
    pub fn plain(arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<Cli> {
        let mut exec = Exec {
            cache: None,
            cache_failures: false,
            key: None,
            namespace: None,
            input: Vec::new(),
            env: Vec::new(),
            no_stdin: false,
            command: Vec::new(),
        };
        let mut arguments = arguments;
        loop {
            match arguments.next()?.to_str()? {
                "--" => break,
                "--cache" => exec.cache = Some(String::new()),
                "-n" | "--no-stdin" => exec.no_stdin = true,
                other => exec.cache = Some(other.strip_prefix("--cache=")?.to_owned()),
            }
        }
        exec.command = arguments.collect();
        let named = |name: &str| std::env::var(name).ok();
        let global = Global {
            project: named("IBID_PROJECT"),
            environment: named("IBID_ENVIRONMENT"),
            json: false,
            plain: false,
            no_start: false,
        };
        (!exec.command.is_empty()).then_some(Cli { global, command: Some(Command::Exec(exec)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        ExecAlone::command().debug_assert();
    }

    #[test]
    fn the_plain_form_of_exec_is_read_as_the_parser_reads_it() {
        for line in [
            "--cache -- make site",
            "--cache=10m -n -- ls -la --cache",
            "-- true",
            "--no-stdin --cache=1 --cache -- a",
            "--cache --",
            "make",
            "--cache -k 3 -- a",
            "--help",
            "",
        ] {
            let words = || line.split_whitespace().map(std::ffi::OsString::from);
            let Some(Cli { command: Some(Command::Exec(plain)), .. }) = ExecAlone::plain(words()) else { continue };
            let all = std::iter::once("ibid exec".into()).chain(words());
            match ExecAlone::try_parse_from(all) {
                Ok(parsed) => {
                    assert_eq!(plain.command, parsed.exec.command, "{line}");
                    assert_eq!(plain.cache, parsed.exec.cache, "{line}");
                    assert_eq!(plain.no_stdin, parsed.exec.no_stdin, "{line}");
                }
                Err(error) => assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict, "{line}: {error}"),
            }
        }
        assert!(ExecAlone::plain(["--cache", "--", "x"].map(Into::into).into_iter()).is_some());
    }
}
