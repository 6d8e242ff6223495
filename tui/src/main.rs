//! `ibid`: without arguments in a terminal the screens, otherwise commands.

mod app;
mod cli;
mod commands;
mod context;
mod output;
mod project;
mod screens;
mod settings;
mod widgets;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let json = cli.global.json;
    let context = match context::Context::new(&cli.global) {
        Ok(context) => context,
        Err(failure) => return failure.report(json),
    };
    let outcome = match cli.command {
        Some(command) => commands::run(&context, command),
        None if cli.global.plain || is_dumb() => screens::plain::run(&context),
        None if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() => screens::run(&context, None),
        None => commands::runs(&context, &cli::ListRuns::default()),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}

/// Whether the terminal says of itself that it cannot draw screens.
fn is_dumb() -> bool {
    std::io::stdout().is_terminal() && std::env::var("TERM").as_deref() == Ok("dumb")
}
