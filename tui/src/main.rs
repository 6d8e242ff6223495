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

use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    if std::env::var_os(commands::completions::VARIABLE).is_some() {
        clap_complete::CompleteEnv::with_factory(cli::Cli::command).var(commands::completions::VARIABLE).complete();
    }
    let is_exec = std::env::args_os().nth(1).is_some_and(|first| first == "exec");
    let cli = parse(is_exec);
    let json = cli.global.json;
    let is_exec = matches!(cli.command, Some(cli::Command::Exec(_)));
    let context = match context::Context::new(&cli.global) {
        Ok(context) => context,
        Err(failure) if is_exec => {
            return context::Failure { code: commands::exec::OWN_FAILURE, ..failure }.report(json);
        }
        Err(failure) => return failure.report(json),
    };
    let outcome = match cli.command {
        Some(command) => commands::run(&context, command),
        None if cli.global.plain || is_dumb() => screens::plain::run(&context),
        None if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() => screens::run(&context, None),
        None => commands::runs(&context, &cli::List::default()),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(json),
    }
}

/// The arguments. To describe every command takes longer than `exec` needs to answer from the cache, so
/// that is parsed by itself.
fn parse(is_exec: bool) -> cli::Cli {
    if is_exec {
        if let Some(plain) = cli::ExecAlone::plain(std::env::args_os().skip(2)) {
            return plain;
        }
        let named = std::iter::once("ibid exec".into()).chain(std::env::args_os().skip(2));
        let alone = cli::ExecAlone::try_parse_from(named).unwrap_or_else(|error| exit_for(&error));
        return cli::Cli { global: alone.global, command: Some(cli::Command::Exec(alone.exec)) };
    }
    cli::Cli::try_parse().unwrap_or_else(|error| exit_for(&error))
}

/// Tells what is wrong with the arguments, or the help that was asked for.
fn exit_for(error: &clap::Error) -> ! {
    if std::env::args().any(|word| word == "--json") && error.use_stderr() {
        let failure = context::Failure::usage(error.to_string().trim_end());
        failure.report(true);
        std::process::exit(error.exit_code());
    }
    let exec = std::env::args().skip(1).take_while(|word| word != "--").any(|word| word == "exec");
    if exec && error.use_stderr() {
        // Where standard error is gone, the code still tells.
        let _gone = error.print();
        std::process::exit(i32::from(commands::exec::OWN_FAILURE));
    }
    error.exit()
}

/// Whether the terminal says of itself that it cannot draw screens.
fn is_dumb() -> bool {
    std::io::stdout().is_terminal() && std::env::var("TERM").as_deref() == Ok("dumb")
}
