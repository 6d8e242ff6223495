//! `env`: environments and their bases.

use std::process::ExitCode;

use ibid::protocol::{EnvCreate, ListEnvironments, Scope};

use crate::cli::Env;
use crate::context::{Context, Outcome};
use crate::output::{self, clean, table};

pub fn env(context: &Context, env: &Env) -> Outcome {
    match env {
        Env::Create { name, base } => create(context, name, base.clone()),
        Env::Ls => list(context),
    }
}

fn create(context: &Context, name: &str, base: Option<String>) -> Outcome {
    let scope = Scope { project: context.scope.project.clone(), environment: name.to_owned() };
    let created = context.ask(EnvCreate { scope, base })?;
    if context.json {
        return output::json(&created);
    }
    let made = &created.environment;
    let what = if created.created { "created" } else { "was there" };
    let base = made.base.as_ref().map_or_else(String::new, |base| format!(", based on {}", clean(base)));
    output::print(&format!("{}/{} {what}{base}\n", clean(&made.project), clean(&made.environment)))?;
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context) -> Outcome {
    let mut list = context.ask(ListEnvironments {})?;
    if context.scope_named {
        list.environments.retain(|one| one.project == context.scope.project);
    }
    if context.json {
        return output::json(&list.environments);
    }
    if list.environments.is_empty() {
        output::print("no environments yet: 'ibid register' and 'ibid env create' make them\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = list
        .environments
        .iter()
        .map(|one| {
            let base = one.base.as_deref().unwrap_or_default();
            vec![clean(&one.project), clean(&one.environment), clean(base)]
        })
        .collect();
    output::print(&table(&["PROJECT", "ENVIRONMENT", "BASE"], &rows))?;
    Ok(ExitCode::SUCCESS)
}
