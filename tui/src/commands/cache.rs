//! `cache ls`, `stats`, `show`, `forget`, `pin`, `unpin`.

use std::process::ExitCode;

use ibid::protocol::{
    CacheChanged, CacheForget, CacheList, CachePin, CacheUnpin, GetCacheStats, ListCache, NamespaceView, ShowKey,
    length_in_words, size_in_words,
};

use super::lists::{Facts, more, page};
use crate::app::listings;
use crate::cli::{self, Cache};
use crate::context::{Context, Failure, Outcome};
use crate::output::{self, ago, clean, table};

pub fn cache(context: &Context, command: Cache) -> Outcome {
    match command {
        Cache::Ls { namespace, list } => self::list(context, namespace, &list),
        Cache::Stats => stats(context),
        Cache::Show { key } => show(context, key),
        Cache::Forget { key, undo } => forget(context, key, undo),
        Cache::Prune(prune) => super::prune::cache(context, &prune),
        Cache::Pin { key } => pin(context, key),
        Cache::Unpin { key } => unpin(context, key),
    }
}

fn forget(context: &Context, key: String, undo: bool) -> Outcome {
    let changed = context.ask(CacheForget { scope: context.scope.clone(), key, undo })?;
    let what = match (undo, changed.changed) {
        (false, 0) => "has no result that could be forgotten",
        (false, _) => "is forgotten: the next call runs. --undo puts it back",
        (true, 0) => "had nothing forgotten",
        (true, _) => "is back: the next call takes it",
    };
    changed_key(context, &changed, what)
}

fn pin(context: &Context, key: String) -> Outcome {
    let changed = context.ask(CachePin { scope: context.scope.clone(), key })?;
    let what = if changed.changed > 0 { "is pinned: pruning leaves it" } else { "was pinned already" };
    changed_key(context, &changed, what)
}

fn unpin(context: &Context, key: String) -> Outcome {
    let changed = context.ask(CacheUnpin { scope: context.scope.clone(), key })?;
    let what = if changed.changed > 0 { "is no longer pinned" } else { "was not pinned" };
    changed_key(context, &changed, what)
}

fn changed_key(context: &Context, changed: &CacheChanged, what: &str) -> Outcome {
    if context.json {
        return output::json(changed);
    }
    output::print(&format!("{} {what}\n", changed.key.chars().take(12).collect::<String>()))?;
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context, namespace: Option<String>, filter: &cli::List) -> Outcome {
    let command = namespace.as_ref().map_or_else(|| "cache ls".to_owned(), |name| format!("cache ls {name}"));
    let of_one = namespace.is_some();
    let mut found = context.ask(ListCache { scope: context.scope.clone(), namespace, limit: Some(10_000) })?;
    let keys = std::mem::take(&mut found.keys);
    let (keys, next_key) = if of_one {
        page(keys, filter, |key| Facts {
            key: key.key.chars().take(12).collect(),
            state: key.state.name().to_owned(),
            target: key.target.clone(),
            since: Some(key.created),
        })?
    } else {
        (keys, None)
    };
    let (namespaces, next_namespace) = page_unless(of_one, std::mem::take(&mut found.namespaces), filter)?;
    let next = next_key.or(next_namespace);
    let list = CacheList { keys, namespaces };
    if context.json {
        return output::json(&list);
    }
    if of_one {
        let rows: Vec<_> = list
            .keys
            .iter()
            .map(|key| {
                vec![
                    key.key.chars().take(12).collect(),
                    key.execution.to_string(),
                    output::state(key.state),
                    key.duration.map_or_else(String::new, length_in_words),
                    ago(key.created),
                    format!("{} {}", clean(&key.target), clean(&key.arguments)),
                ]
            })
            .collect();
        let text = table(&["KEY", "NEWEST", "STATE", "TIME", "CREATED", "CALL"], &rows);
        output::print(&format!("{text}{}", more(&command, next.as_deref())))?;
    } else {
        let rows: Vec<_> =
            list.namespaces.iter().map(|space| listings::namespace(space, output::now()).cells).collect();
        let text = table(&["NAMESPACE", "RAN", "FAILED", "HITS", "LINKS", "SAVED", "BYTES", "LAST USED"], &rows);
        output::print(&format!("{text}{}", more(&command, next.as_deref())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Of one namespace the keys are listed, and no namespaces.
fn page_unless(
    of_one: bool,
    namespaces: Vec<NamespaceView>,
    filter: &cli::List,
) -> Result<(Vec<NamespaceView>, Option<String>), Failure> {
    if of_one {
        return Ok((namespaces, None));
    }
    page(namespaces, filter, |space| Facts {
        key: space.namespace.clone(),
        state: String::new(),
        target: space.namespace.clone(),
        since: Some(space.last_used),
    })
}

fn stats(context: &Context) -> Outcome {
    let stats = context.ask(GetCacheStats { scope: context.scope.clone() })?;
    if context.json {
        return output::json(&stats);
    }
    let total = &stats.total;
    let rate = stats.hit_percent.map_or_else(|| "no calls yet".to_owned(), |percent| format!("{percent} % of calls"));
    output::print(&format!(
        "executed   {}\nfailed     {}\nhits       {}\nlinks      {}\nreused     {rate}\nsaved      {}\nresults    {}\non disk    {}\n",
        total.executed,
        total.failed,
        total.hits,
        total.links,
        length_in_words(total.saved),
        size_in_words(total.bytes),
        size_in_words(stats.disk_bytes),
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn show(context: &Context, key: String) -> Outcome {
    let view = context.ask(ShowKey { scope: context.scope.clone(), key })?;
    if context.json {
        return output::json(&view);
    }
    let mut text = format!("key        {}\nnamespace  {}\n", view.key, clean(&view.namespace));
    if let Some(version) = &view.version {
        text.push_str(&format!("version    {}\n", clean(version)));
    }
    match view.usable.first() {
        Some(newest) => {
            let age = newest.ended.map_or_else(String::new, |ended| format!(", {}", ago(ended)));
            text.push_str(&format!("result     of {}{age}\n", newest.id));
        }
        None => text.push_str("result     none that a call could take\n"),
    }
    let rows: Vec<_> = view
        .executions
        .iter()
        .map(|attempt| {
            vec![
                attempt.id.to_string(),
                output::state(attempt.state),
                attempt.duration.map_or_else(String::new, length_in_words),
                ago(attempt.created),
                clean(&attempt.detail),
            ]
        })
        .collect();
    text.push_str(&table(&["EXECUTION", "STATE", "TIME", "CREATED", ""], &rows));
    if !view.borrowers.is_empty() {
        let names: Vec<_> = view.borrowers.iter().take(20).map(ToString::to_string).collect();
        let more = view.borrowers.len().saturating_sub(20);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        text.push_str(&format!("taken by   {}{more}\n", names.join(" ")));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
