//! `dev`: registers, watches the files, registers again, and shows what runs write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ibid::blocking::{Client, ClientError};
use ibid::model::{Id, RunId};
use ibid::protocol::{GetLogs, ListRuns, LogLine};
use notify::{EventKind, RecursiveMode, Watcher as _};

use super::{logs, register, start};
use crate::cli;
use crate::context::{Context, Failure, Outcome};
use crate::output::{self, clean};

/// Editors write a file in several steps: changes this close together count as one.
const SETTLE: Duration = Duration::from_millis(150);

/// How often it is looked for new lines.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs that are looked at each time: as many as may begin between two looks.
const RUNS_AT_ONCE: u32 = 200;

pub fn dev(context: &Context, command: &cli::Register) -> Outcome {
    let here =
        std::env::current_dir().map_err(|error| Failure::usage(format!("there is no current directory: {error}")))?;
    let root = match (&command.dir, &context.project) {
        (Some(directory), _) => directory.clone(),
        (None, Some(project)) => project.directory.clone(),
        (None, None) => here,
    };
    // What cannot be imported yet may be in a moment.
    if let Err(failure) = register::register(context, command) {
        if failure.kind != "import_failed" && failure.kind != "no_targets" {
            return Err(failure);
        }
        failure.report(context.json);
    }
    let (send, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |event| {
        // The other end is gone only when this ends.
        let _gone = send.send(event);
    })
    .and_then(|mut watcher| watcher.watch(&root, RecursiveMode::Recursive).map(|()| watcher))
    .map_err(|error| Failure::usage(format!("{} cannot be watched: {error}", root.display())))?;
    let mut programs = register::programs(context.project.as_ref(), command);
    watch_beside(&mut watcher, &root, &programs);
    let own = context.again();
    let shown = std::thread::spawn(move || show_runs(&own));
    // Said on standard error, so that standard output has the logs alone.
    eprintln!("ibid: watching {}; ctrl-c ends", root.display());
    while let Ok(event) = changes.recv_timeout(Duration::from_millis(500)).or_else(|error| match error {
        mpsc::RecvTimeoutError::Timeout if !shown.is_finished() => Ok(Ok(notify::Event::new(EventKind::Any))),
        error => Err(error),
    }) {
        let mut changed: BTreeSet<PathBuf> = relevant(event, &root, &programs, &context.paths.data);
        if changed.is_empty() {
            continue;
        }
        let mut until = Instant::now() + SETTLE;
        while let Ok(event) = changes.recv_timeout(until.saturating_duration_since(Instant::now())) {
            let more = relevant(event, &root, &programs, &context.paths.data);
            if !more.is_empty() {
                until = Instant::now() + SETTLE;
                changed.extend(more);
            }
        }
        let names: Vec<_> =
            changed.iter().map(|path| path.strip_prefix(&root).unwrap_or(path).display().to_string()).collect();
        eprintln!("ibid: {} changed; registering again", clean(&names.join(", ")));
        let project = crate::project::find(&root).map_err(Failure::usage);
        let registered = project.and_then(|project| {
            let context = Context { project, ..context.again() };
            programs = register::programs(context.project.as_ref(), command);
            watch_beside(&mut watcher, &root, &programs);
            register::register_again(&context, command)
        });
        if let Err(failure) = registered {
            failure.report(context.json);
        }
    }
    // Kept until here: what it watches ends with it.
    let _unwatched = watcher.unwatch(&root);
    match shown.join() {
        Ok(Err(error)) => Err(error),
        _ => Err(ClientError::Lost("nothing more can be watched".to_owned()).into()),
    }
}

/// Watches the directories of programs that are not below the root.
fn watch_beside(watcher: &mut notify::RecommendedWatcher, root: &Path, programs: &[PathBuf]) {
    for directory in programs.iter().filter_map(|program| program.parent()).filter(|parent| !parent.starts_with(root)) {
        // One that is not there is missed when the program is registered.
        let _missing = watcher.watch(directory, RecursiveMode::NonRecursive);
    }
}

/// The files of an event that targets may come from.
fn relevant(event: notify::Result<notify::Event>, root: &Path, programs: &[PathBuf], data: &Path) -> BTreeSet<PathBuf> {
    let Ok(event) = event else { return BTreeSet::new() };
    if matches!(event.kind, EventKind::Access(_)) {
        return BTreeSet::new();
    }
    let is_program = |path: &Path| std::path::absolute(path).is_ok_and(|path| programs.contains(&path));
    let is_source = |path: &Path| is_source(path.strip_prefix(root).unwrap_or(path)) && !path.starts_with(data);
    event.paths.into_iter().filter(|path| is_source(path) || is_program(path)).collect()
}

fn is_source(path: &Path) -> bool {
    let hidden = path.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        (part.starts_with('.') && part.len() > 2) || part == "__pycache__" || part == "node_modules"
    });
    let name = path.file_name().unwrap_or_default();
    !hidden && (path.extension().is_some_and(|extension| extension == "py") || name == "ibid.toml")
}

/// Runs that are shown.
#[derive(Default)]
struct Shown {
    /// The newest that is known.
    last: Option<RunId>,
    /// Those that go on, and how many of their lines have been shown.
    open: BTreeMap<RunId, u64>,
}

/// Prints what executions write, of every run that begins from now on, whatever becomes of the daemon.
fn show_runs(context: &Context) -> Result<(), Failure> {
    let mut shown = Shown::default();
    loop {
        let mut client = start::reconnect(context)?;
        let ended = loop {
            match show_new(&mut client, context, &mut shown) {
                Ok(()) => std::thread::sleep(LOOK_EVERY),
                Err(failure) => break failure,
            }
        };
        if ended.kind != "no_daemon" {
            return Err(ended);
        }
        eprintln!("ibid: the daemon went away; waiting for it");
    }
}

fn show_new(client: &mut Client, context: &Context, shown: &mut Shown) -> Result<(), Failure> {
    let limit = if shown.last.is_some() { RUNS_AT_ONCE } else { 1 };
    let scope = Some(context.scope.clone());
    let list = ListRuns { scope, state: None, target: None, since: None, limit: Some(limit), cursor: None };
    let runs = client.call(list)?.runs;
    let newest = runs.first().map_or(RunId(0), |run| run.id);
    let last = *shown.last.get_or_insert(newest);
    for run in runs.iter().rev().filter(|run| run.id > last) {
        eprintln!("ibid: {} {}", run.id, clean(&run.target));
        shown.open.insert(run.id, 0);
    }
    shown.last = Some(last.max(newest));
    let mut over = Vec::new();
    for (id, lines) in &mut shown.open {
        // Asked before: what was written until then is all there is.
        let run = runs.iter().find(|run| run.id == *id);
        let log = client.call(GetLogs { id: Id::Run(*id), from: Some(*lines), contains: None })?;
        *lines += log.lines.len() as u64;
        let mut text = String::new();
        for mut line in log.lines {
            line.execution.get_or_insert(log.execution);
            text.push_str(&if context.json { json_line(&line)? } else { logs::line_text(&line, true) });
            text.push('\n');
        }
        output::print(&text)?;
        match run {
            Some(run) if run.ended.is_none() => {}
            Some(run) => {
                eprintln!("ibid: {id} {}", run.state.name());
                over.push(*id);
            }
            None => over.push(*id),
        }
    }
    for run in over {
        shown.open.remove(&run);
    }
    Ok(())
}

fn json_line(line: &LogLine) -> Result<String, Failure> {
    serde_json::to_string(line).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_count() {
        for yes in ["/a/b.py", "ibid.toml", "/x/ibid.toml", "../a/b.py"] {
            assert!(is_source(Path::new(yes)), "{yes}");
        }
        for no in ["/a/b.pyc", "/a/.git/x.py", "/a/__pycache__/b.py", "/a/.venv/lib/x.py", "/a/b.txt", "/a/.b.py"] {
            assert!(!is_source(Path::new(no)), "{no}");
        }
    }
}
