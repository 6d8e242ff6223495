//! `why`: one sentence first, facts below.

use std::process::ExitCode;

use ibid::protocol::Why;

use crate::app::arguments;
use crate::context::{Context, Outcome};
use crate::output::{self, clean};

pub fn why(context: &Context, id: &str) -> Outcome {
    let explanation = context.ask(Why { id: arguments::id(id)? })?;
    if context.json {
        return output::json(&explanation);
    }
    let mut text = format!("{}\n", clean(&explanation.sentence));
    if let Some(would) = &explanation.would_hit {
        text.push_str(&format!("{}\n", clean(would)));
    }
    let width = explanation.facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or(0);
    for fact in &explanation.facts {
        text.push_str(&format!("  {:<width$}  {}\n", clean(&fact.name), clean(&fact.text)));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
