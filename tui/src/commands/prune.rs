//! `cache prune`, `runs prune`: what is kept too long goes, and its space comes back.

use std::process::ExitCode;

use ibid::protocol::{CachePrune, Prune, Pruned, RunsPrune, size_in_words};

use crate::app::arguments;
use crate::cli;
use crate::context::{Context, Failure, Outcome};
use crate::output;

fn request(context: &Context, prune: &cli::Prune) -> Result<Prune, Failure> {
    if prune.older_than.is_none() && prune.max_size.is_none() && prune.keep_latest.is_none() {
        return Err(Failure::usage("say what may go: --older-than AGE, --max-size BYTES or --keep-latest N"));
    }
    Ok(Prune {
        scope: context.scope_named.then(|| context.scope.clone()),
        namespace: prune.namespace.clone(),
        older_than: prune.older_than.as_deref().map(arguments::age).transpose()?,
        max_size: prune.max_size.as_deref().map(arguments::size).transpose()?,
        keep_latest: prune.keep_latest,
        dry_run: prune.dry_run,
    })
}

pub fn cache(context: &Context, prune: &cli::Prune) -> Outcome {
    let pruned = context.ask(CachePrune(request(context, prune)?))?;
    tell(context, &pruned, &format!("{} results", pruned.results))
}

pub fn runs(context: &Context, prune: &cli::Prune) -> Outcome {
    let pruned = context.ask(RunsPrune(request(context, prune)?))?;
    tell(context, &pruned, &format!("{} runs with {} steps", pruned.runs, pruned.steps))
}

fn tell(context: &Context, pruned: &Pruned, what: &str) -> Outcome {
    if context.json {
        return output::json(pruned);
    }
    let size = size_in_words(pruned.bytes);
    let text = if pruned.dry_run {
        format!("would remove {what} and {} values, {size}; nothing was removed\n", pruned.values)
    } else {
        let back = pruned.disk_before.saturating_sub(pruned.disk_after);
        format!(
            "removed {what} and {} values, {size}; {} came back to the disk, the store has {} now\n",
            pruned.values,
            size_in_words(back),
            size_in_words(pruned.disk_after)
        )
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
