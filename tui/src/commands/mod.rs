//! One file a command, or a family of them.

mod cache;
pub mod completions;
mod daemon;
mod demo;
mod dev;
mod diff;
mod doctor;
mod env;
pub mod exec;
mod export;
mod lists;
mod logs;
mod prune;
mod register;
mod rpc;
mod sensor;
mod service;
mod show;
mod start;
mod steer;
mod why;

pub use lists::runs;
pub use register::own_variables;

use std::path::{Path, PathBuf};

use ibid::protocol::LogLine;

use crate::cli::{Command, Runs};
use crate::context::{Context, Outcome};

/// Does what a command says.
pub fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Demo => demo::demo(context),
        Command::Dev(register) => dev::dev(context, &register),
        Command::Doctor { verify } => doctor::doctor(context, verify),
        Command::Completions { shell } => completions::completions(shell),
        Command::Man { directory } => completions::man(&directory),
        Command::Service(service) => service::service(context, &service),
        Command::Register(register) => register::register(context, &register),
        Command::Run(start) if start.explain => start::explain(context, &start),
        Command::Run(start) => start::run(context, &start),
        Command::Submit(start) if start.explain => start::explain(context, &start),
        Command::Submit(start) => start::submit(context, &start),
        Command::Exec(command) => exec::exec(context, &command),
        Command::Targets(list) => lists::targets(context, &list),
        Command::Runs { command: Some(Runs::Prune(prune)), .. } => prune::runs(context, &prune),
        Command::Runs { list, command: None } => lists::runs(context, &list),
        Command::Show { id, all } => show::show(context, &id, all),
        Command::Result { id, raw } => start::result(context, &id, raw),
        Command::Why { id } => why::why(context, &id),
        Command::Rerun { id, explain: true, .. } => steer::predict(context, &id),
        Command::Rerun { id, wait, below, .. } => steer::rerun(context, &id, wait, below),
        Command::Diff { one, other, all } => diff::diff(context, &one, &other, all),
        Command::Cancel { id, force } => steer::cancel(context, &id, force),
        Command::Logs { id, follow, grep } => logs::logs(context, &id, follow, grep.as_deref()),
        Command::Export { id, format } => export::export(context, &id, format),
        Command::Queue(list) => lists::queue(context, &list),
        Command::Workers(list) => lists::workers(context, &list),
        Command::Sensors(list) => sensor::list(context, &list),
        Command::Sensor(sensor) => sensor::sensor(context, &sensor),
        Command::Env(env) => env::env(context, &env),
        Command::Cache(cache) => cache::cache(context, cache),
        Command::Daemon(daemon) => daemon::daemon(context, daemon),
        Command::Rpc { method, params } => rpc::rpc(context, &method, params.as_deref()),
    }
}

/// The interpreter that commands without one use; `None` where there is none.
pub fn interpreter(directory: &Path) -> Option<PathBuf> {
    register::find_interpreter(None, directory).ok()
}

/// One line of a log as people read it.
pub fn log_line(line: &LogLine) -> String {
    logs::line_text(line, false)
}
