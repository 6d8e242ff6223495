//! `export`: a run for other programs: a trace for Perfetto, a graph for Graphviz, or its records.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use ibid::blocking::Client;
use ibid::model::{RunId, State, StepId};
use ibid::protocol::{ListSteps, RunView, Show, StepView};
use serde_json::{Value, json};

use crate::app::{arguments, steps};
use crate::cli::ExportFormat;
use crate::context::{Context, Failure, Outcome};
use crate::output::{self, clean};

pub fn export(context: &Context, id: &str, format: ExportFormat) -> Outcome {
    let id = arguments::id(id)?;
    let mut client = context.connect()?;
    let run = client.call(Show { id: ibid::model::Id::Run(id.run()) })?.run;
    let steps = all_steps(&mut client, id.run())?;
    match format {
        ExportFormat::Json => output::json(&json!({"run": run, "steps": steps})),
        ExportFormat::ChromeTrace => output::json(&trace(&run, &steps, output::now())),
        ExportFormat::Dot => {
            output::print(&graph(&run, &steps))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn all_steps(client: &mut Client, run: RunId) -> Result<Vec<StepView>, Failure> {
    let mut steps = Vec::new();
    let mut from = None;
    loop {
        let page = client.call(ListSteps { run, limit: Some(5000), from })?;
        steps.extend(page.steps);
        from = page.next;
        if from.is_none() {
            return Ok(steps);
        }
    }
}

fn name(step: &StepView) -> String {
    let arguments = steps::short_arguments(&step.arguments, 40);
    clean(format!("{} {arguments}", steps::short_target(&step.target)).trim_end())
}

/// The trace-event format: one complete event for each time that an execution waited or ran, on lanes so
/// that none overlaps another. Times are microseconds since the run's start.
fn trace(run: &RunView, all: &[StepView], now: i64) -> Value {
    let mut spans = Vec::new();
    for step in all {
        for attempt in &step.attempts {
            let end = attempt.ended.unwrap_or(now);
            let started = attempt.started.unwrap_or(end).min(end);
            let borrowed = attempt.source.or(attempt.leader).map(|source| source.to_string());
            let waits = match (&borrowed, attempt.run) {
                (Some(_), _) => "borrowed",
                // The work is that of a run of its own.
                (None, Some(_)) => "spawned",
                (None, None) => "queued",
            };
            let detail = json!({
                "id": attempt.id.to_string(),
                "state": attempt.state.name(),
                "why": attempt.decision_kind,
                "source": borrowed,
                "key": step.key,
                "worker": attempt.worker,
            });
            if started > attempt.created || attempt.started.is_none() {
                spans.push((attempt.created, started, format!("{} ({waits})", name(step)), waits, detail.clone()));
            }
            if attempt.started.is_some() {
                spans.push((started, end, name(step), "ran", detail));
            }
        }
    }
    spans.sort_by_key(|(from, to, ..)| (*from, std::cmp::Reverse(*to)));
    let mut free_at: Vec<i64> = Vec::new();
    let mut events = vec![json!({
        "ph": "M", "pid": 1, "name": "process_name", "args": {"name": format!("{} {}", run.id, run.target)},
    })];
    for (from, to, name, category, detail) in spans {
        let lane = match free_at.iter().position(|free| *free <= from) {
            Some(lane) => lane,
            None => {
                free_at.push(0);
                free_at.len() - 1
            }
        };
        free_at[lane] = to.max(from + 1);
        events.push(json!({
            "ph": "X", "pid": 1, "tid": lane, "name": name, "cat": category,
            "ts": (from - run.created) * 1000, "dur": (to - from) * 1000, "args": detail,
        }));
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms"})
}

/// Who called whom, and dashed whose result was taken.
fn graph(run: &RunView, all: &[StepView]) -> String {
    let known: BTreeMap<StepId, &StepView> = all.iter().map(|step| (step.id, step)).collect();
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = format!(
        "digraph {} {{\n  rankdir=LR;\n  node [shape=box, fontname=\"monospace\"];\n",
        quoted(&run.id.to_string())
    );
    for step in all {
        let state = steps::shown_state(step);
        let colour = match state {
            State::Succeeded => "darkgreen",
            State::Cached | State::Linked | State::Deferred => "purple",
            State::Failed | State::TimedOut => "red",
            State::Cancelled | State::Abandoned => "orange",
            State::Queued | State::Running | State::Spawned => "blue",
        };
        let label = format!("{} {}\n{}", steps::glyph(state, false), name(step), step.id);
        let label = quoted(&label).replace('\n', "\\n");
        let _infallible = writeln!(text, "  {} [label={label}, color={colour}];", quoted(&step.id.to_string()));
    }
    for step in all {
        let own = quoted(&step.id.to_string());
        if let Some(caller) = step.caller {
            let _infallible = writeln!(text, "  {} -> {own};", quoted(&caller.step.to_string()));
        }
        let borrowed = step.newest().and_then(|attempt| attempt.source.or(attempt.leader));
        if let Some(source) = borrowed {
            let from = quoted(&source.step.to_string());
            if !known.contains_key(&source.step) {
                let _infallible = writeln!(text, "  {from} [style=dashed];");
            }
            let _infallible = writeln!(text, "  {from} -> {own} [style=dashed, color=purple];");
        }
    }
    text.push_str("}\n");
    text
}
