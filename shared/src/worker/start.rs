//! `main` of a program of tasks, and starting workflows from any program.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::refused;
use super::{Error, Result, Target, host, values};
use crate::Client;
use crate::blocking;
use crate::paths::{Paths, ProcessEnvironment};
use crate::protocol::{GetResult, Register, Scope, Submit};

const HELP: &str = "\
hosts tasks for ibid; the daemon starts it when there is work.

  register [-p PROJECT] [-e ENVIRONMENT] [--concurrency N]
            make its tasks known to the daemon
  targets   list its tasks
";

/// What a program of tasks does: serves the daemon that has started it, or does what its arguments say
/// (`register`, `targets`).
///
/// ```no_run
/// fn main() -> ibid::Result<()> {
///     ibid::worker::main()
/// }
/// ```
///
/// # Errors
/// Where the daemon cannot be reached or refuses.
pub fn main() -> Result<()> {
    if let Ok(token) = std::env::var("IBID_WORKER_TOKEN") {
        return host::serve(token);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("register") => register(&arguments[1..]),
        Some("targets") => {
            let mut targets: Vec<_> = Target::all().map(|target| (target.full_name(), target.kind.name())).collect();
            targets.sort_unstable();
            for (name, kind) in targets {
                println!("{name}  {kind}");
            }
            Ok(())
        }
        None | Some("help" | "-h" | "--help") => {
            print!("{} {HELP}", super::repository());
            Ok(())
        }
        Some(other) => Err(Error::new("Usage", format!("'{other}' is not known; it {}", HELP.trim_end()))),
    }
}

fn usual_scope() -> Scope {
    let named = |variable: &str| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let usual = Scope::default();
    Scope {
        project: named("IBID_PROJECT").unwrap_or(usual.project),
        environment: named("IBID_ENVIRONMENT").unwrap_or(usual.environment),
    }
}

fn register(arguments: &[String]) -> Result<()> {
    let (mut scope, mut concurrency) = (usual_scope(), None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = || Error::new("Usage", format!("{argument} wants a value"));
        match argument.as_str() {
            "-p" | "--project" => scope.project = rest.next().ok_or_else(value)?.clone(),
            "-e" | "--environment" => scope.environment = rest.next().ok_or_else(value)?.clone(),
            "--concurrency" => concurrency = Some(rest.next().ok_or_else(value)?.parse()?),
            other => return Err(Error::new("Usage", format!("'{other}' is not known; {}", HELP.trim_end()))),
        }
    }
    let paths = Paths::find(&ProcessEnvironment).and_then(Paths::checked).map_err(Error::message)?;
    let mut client = blocking::connect_or_start(&paths).map_err(refused)?.client;
    let own: PathBuf = std::env::current_exe()?;
    let registered = client.call(Register {
        scope,
        modules: Vec::new(),
        directory: std::env::current_dir()?.display().to_string(),
        interpreter: String::new(),
        tasks: None,
        variables: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !name.starts_with("IBID_"))
            .collect(),
        concurrency,
        fork: true,
        programs: vec![own.display().to_string()],
    });
    for target in registered.map_err(refused)?.targets {
        println!("{}", target.target);
    }
    Ok(())
}

/// Starts a workflow from any program, waits, and returns its result. Arguments are a tuple: `("monday", 7)`,
/// `(7,)`, `()`. The project and environment are `$IBID_PROJECT` and `$IBID_ENVIRONMENT` (`default` where they
/// are not set). The daemon is started if none answers.
///
/// ```no_run
/// # async fn example() -> ibid::Result<()> {
/// let pages: Vec<String> = ibid::run("news/site", ("monday",)).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Where the run fails, there is no such workflow, or the arguments do not fit.
pub async fn run<T: DeserializeOwned>(target: &str, arguments: impl Serialize) -> Result<T> {
    let client = Client::connect().await.map_err(refused)?;
    let submit = Submit { arguments: values::encode_all(&arguments)?, ..Submit::new(usual_scope(), target) };
    let submitted = client.call(submit).await.map_err(refused)?;
    values::decode(&value_of(&client, submitted.step.into()).await?)
}

async fn value_of(client: &Client, id: crate::model::Id) -> Result<crate::model::Json> {
    let outcome = client.call(GetResult { id, wait: true, caller: None }).await.map_err(refused)?;
    let json = super::context::text_of(outcome).await?;
    let mut others = std::collections::BTreeMap::new();
    for id in values::referred(&json)? {
        if let Ok(call) = id.parse() {
            others.insert(id, Box::pin(value_of(client, call)).await?.read()?);
        }
    }
    if others.is_empty() { Ok(json) } else { values::resolved(&json, &others) }
}
