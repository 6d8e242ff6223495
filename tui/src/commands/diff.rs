//! `diff`: what two executions have in common and what not.

use std::process::ExitCode;

use ibid::protocol::Compare;

use crate::app::arguments;
use crate::context::{Context, Outcome};
use crate::output::{self, clean};

pub fn diff(context: &Context, one: &str, other: &str, all: bool) -> Outcome {
    let comparison = context.ask(Compare { one: arguments::id(one)?, other: arguments::id(other)? })?;
    if context.json {
        return output::json(&comparison);
    }
    let mut text = format!("{} and {}\n", comparison.one, comparison.other);
    for part in comparison.parts.iter().filter(|part| all || !part.equal) {
        let values = match part.equal {
            true => format!("= {}", clean(&part.one)),
            false => format!("≠ {} → {}", clean(&part.one), clean(&part.other)),
        };
        let key = if part.in_key && !part.equal { "   decides the look-up" } else { "" };
        text.push_str(&format!("  {:<20} {values}{key}\n", clean(&part.name)));
        for change in &part.changes {
            text.push_str(&format!("      {}\n", clean(change)));
        }
    }
    let equal: Vec<_> = comparison.parts.iter().filter(|part| part.equal).map(|part| clean(&part.name)).collect();
    if !all && !equal.is_empty() {
        text.push_str(&format!("  equal: {}\n", equal.join(", ")));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
