//! `demo`: the example repository, run and shown.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use ibid::model::Id;
use ibid::protocol::{Register, Scope, Show, Submit};

use super::register::find_interpreter;
use super::{show, start};
use crate::context::{Context, Outcome};
use crate::output;
use crate::screens;

/// The module that comes with the daemon.
const MODULE: &str = "ibid.demo";

pub fn demo(context: &Context) -> Outcome {
    let mut client = context.connect()?;
    let scope = Scope { project: "demo".to_owned(), environment: "default".to_owned() };
    let interpreter = find_interpreter(None, &context.paths.data)?;
    client.call(Register {
        scope: scope.clone(),
        modules: vec![MODULE.to_owned()],
        directory: context.paths.data.display().to_string(),
        interpreter: interpreter.display().to_string(),
        variables: super::register::own_variables(),
        concurrency: None,
        fork: true,
        programs: Vec::new(),
        tasks: None,
    })?;
    let tour = Submit::new(scope, format!("{MODULE}/tour"));
    let first = client.call(tour.clone())?;
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !context.json {
        drop(client);
        return screens::run(context, Some(first.run));
    }
    start::wait_for(context, Id::Run(first.run), None)?;
    let second = client.call(tour)?;
    start::wait_for(context, Id::Run(second.run), None)?;
    let shown = [first.run, second.run].map(|run| client.call(Show { id: Id::Run(run) }));
    let [first, second] = shown;
    let (first, second) = (first?, second?);
    if context.json {
        return output::json(&[first, second]);
    }
    let mut text = show::run_text(&mut client, &first.run, first.run.id, false)?;
    text.push_str("\nThe same again: every call was made before, so only the workflow itself runs.\n\n");
    text.push_str(&show::run_text(&mut client, &second.run, second.run.id, false)?);
    let some_hit = ibid::model::StepId { run: second.run.id, step: 2 };
    text.push_str(&format!(
        "\nWhy? ibid why {some_hit}     Again anyway? ibid rerun {some_hit}     Look around: ibid\nIts targets and cache are in the project 'demo': ibid -p demo targets\n"
    ));
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
