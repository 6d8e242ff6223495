//! `rerun`, what it would come to, and `cancel`.

use std::process::ExitCode;

use ibid::model::Id;
use ibid::protocol::{Cancel, Predict, Rerun};

use super::start;
use crate::app::arguments;
use crate::app::form::prospect;
use crate::context::{Context, Outcome};
use crate::output;

pub fn rerun(context: &Context, id: &str, wait: bool, below: bool) -> Outcome {
    let rerunning = context.ask(Rerun { id: arguments::id(id)?, below })?;
    if wait {
        let outcome = start::wait_for(context, Id::Execution(rerunning.execution), None)?;
        if context.json {
            output::json(&outcome)?;
        } else {
            output::print(&format!("{}\n", rerunning.execution))?;
        }
        return Ok(start::exit_code(&outcome));
    }
    if context.json {
        return output::json(&rerunning);
    }
    output::print(&format!("{}\n", rerunning.execution))?;
    Ok(ExitCode::SUCCESS)
}

/// What a re-run would come to.
pub fn predict(context: &Context, id: &str) -> Outcome {
    let predicted = context.ask(Predict { id: arguments::id(id)? })?;
    if context.json {
        return output::json(&predicted);
    }
    output::print(&format!(
        "ibid rerun {id}           {}\nibid rerun {id} --below   {}\nits run as a new one      {}\n",
        prospect(&predicted.forced),
        prospect(&predicted.below),
        prospect(&predicted.again),
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub fn cancel(context: &Context, id: &str, force: bool) -> Outcome {
    let cancelled = context.ask(Cancel { id: arguments::id(id)?, force })?;
    if context.json {
        return output::json(&cancelled);
    }
    let names =
        |ids: &[ibid::model::StepId]| ids.iter().take(20).map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut text = String::new();
    if !cancelled.stopped.is_empty() {
        text.push_str(&format!("cancelled {}\n", names(&cancelled.stopped)));
    }
    if !cancelled.kept.is_empty() {
        text.push_str(&format!("cancelled here, but goes on because others wait for it: {}\n", names(&cancelled.kept)));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
