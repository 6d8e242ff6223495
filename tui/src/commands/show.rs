//! `show`: a run, step or execution.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use ibid::client::Client;
use ibid::model::{Id, RunId};
use ibid::protocol::{
    AttemptView, ListSteps, RunView, Show, Shown, StepView, ValueView, length_in_words, size_in_words,
};

use crate::app::{arguments, tree};
use crate::context::{Context, Failure, Outcome};
use crate::output::{self, clean, clean_lines, moment};

/// How many lines of a run's tree are printed.
const LINES_MAX: usize = 1000;

pub fn show(context: &Context, id: &str, all: bool) -> Outcome {
    let id = arguments::id(id)?;
    let mut client = context.connect()?;
    let shown = client.call(Show { id })?;
    if context.json {
        return output::json(&shown);
    }
    let text = match id {
        Id::Run(run) => run_text(&mut client, &shown.run, run, all)?,
        _ => step_text(&shown),
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A run with the tree of its steps.
pub fn run_text(client: &mut Client, run: &RunView, id: RunId, all: bool) -> Result<String, Failure> {
    let list = client.call(ListSteps { run: id, limit: Some(10_000), from: None })?;
    let steps: BTreeMap<_, _> = list.steps.into_iter().map(|step| (step.id, step)).collect();
    let lasted = match run.ended {
        Some(ended) => length_in_words((ended - run.begun).max(0).cast_unsigned()),
        None => format!("{}+", length_in_words((output::now() - run.begun).max(0).cast_unsigned())),
    };
    let caller = run.caller.map_or_else(|| "by hand".to_owned(), |caller| format!("called by {caller}"));
    let mut text = format!(
        "{} {}  {}  {lasted}  ({caller}, {})\n{}\n\n",
        run.id,
        clean(&run.target),
        output::state(run.state),
        moment(run.created),
        output::counts_in_words(run),
    );
    text.push_str(&tree_text(&steps, all));
    if list.next.is_some() {
        text.push_str("… more steps than are shown here\n");
    }
    if let Some(root) = steps.get(&id.root()).and_then(StepView::newest) {
        text.push_str(&ending(root));
    }
    Ok(text)
}

fn tree_text(steps: &BTreeMap<ibid::model::StepId, StepView>, all: bool) -> String {
    let now = output::now();
    let mut lines = Vec::new();
    let folds = tree::Folds { all_groups: all, ..tree::Folds::default() };
    for row in tree::rows(steps, &folds).into_iter().take(LINES_MAX) {
        let Some(step) = steps.get(&row.step) else { continue };
        if let Some(group) = &row.group {
            lines.push(vec![
                format!(
                    "{}{} {} ×{}",
                    row.branches,
                    tree::glyph(group.state(steps), false),
                    clean(&group.name),
                    group.steps.len()
                ),
                format!("{}…", step.id),
                group.counts(steps, false),
                String::new(),
            ]);
            continue;
        }
        lines.push(vec![
            format!(
                "{}{} {} {}",
                row.branches,
                tree::glyph(tree::shown_state(step), false),
                clean(tree::short_target(&step.target)),
                tree::short_arguments(&step.arguments, 40)
            )
            .trim_end()
            .to_owned(),
            step.id.to_string(),
            tree::via(step),
            tree::time(step, now),
        ]);
    }
    let mut text = output::table(&["STEP", "ID", "VIA", "TIME"], &lines);
    if steps.len() > LINES_MAX {
        let _infallible = writeln!(text, "… {} more", steps.len() - LINES_MAX);
    }
    text
}

fn ending(attempt: &AttemptView) -> String {
    if let Some(error) = &attempt.error {
        let mut text = format!("\nerror  {}: {}\n", clean(&error.kind), clean_lines(&error.message));
        if let Some(traceback) = &error.traceback {
            text.push_str(&clean_lines(traceback));
        }
        return text;
    }
    match &attempt.result {
        Some(value) => format!("\nresult {}\n", value_text(value)),
        None => String::new(),
    }
}

fn value_text(value: &ValueView) -> String {
    match &value.value {
        Some(json) => clean(json.as_str()),
        None => format!("({}; 'ibid result' prints it)", size_in_words(value.size)),
    }
}

fn step_text(shown: &Shown) -> String {
    let (step, execution) = (&shown.step, &shown.execution);
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _infallible = writeln!(text, "{}", format!("{name:<13}{value}").trim_end());
    };
    line(&execution.id.to_string(), &format!("{}  {}", clean(&step.target), output::state(execution.state)));
    if !execution.detail.is_empty() {
        line("", &clean(&execution.detail));
    }
    for argument in &step.arguments {
        line("argument", &format!("{} = {}", clean(&argument.name), value_text(&argument.value)));
    }
    if let Some(group) = &step.group {
        line("group", &clean(group));
    }
    for waited in &execution.blocked_by {
        line("waits for", &waited.to_string());
    }
    if let Some(progress) = tree::progress(step) {
        line("progress", &progress);
    }
    line("decision", &format!("{} (ibid why {})", execution.decision_kind, execution.id));
    if let Some(key) = &step.key {
        line("key", &format!("{}  namespace {}", key.chars().take(12).collect::<String>(), clean(&step.namespace)));
    }
    if let Some(caller) = step.caller {
        line("called by", &caller.to_string());
    }
    if let Some(duration) = execution.duration {
        line("took", &length_in_words(duration));
    }
    if let Some(result) = &execution.result {
        line("result", &value_text(result));
    }
    if let Some(error) = &execution.error {
        line("error", &format!("{}: {}", clean(&error.kind), clean_lines(&error.message)));
        if let Some(traceback) = &error.traceback {
            line("", "");
            line(&clean_lines(traceback), "");
        }
    }
    for transition in &execution.transitions {
        let at = output::clock(transition.at);
        line(&at, &format!("{} {}", output::state(transition.state), clean(&transition.cause)));
    }
    if step.attempts.len() > 1 {
        for attempt in &step.attempts {
            line("attempt", &format!("{} {} {}", attempt.id, output::state(attempt.state), clean(&attempt.detail)));
        }
    }
    let names = |ids: Vec<String>| ids.join(" ");
    if !execution.followers.is_empty() {
        line("followers", &names(execution.followers.iter().map(ToString::to_string).collect()));
    }
    if !execution.superseded.is_empty() {
        line("replaced", &names(execution.superseded.iter().take(20).map(ToString::to_string).collect()));
    }
    if step.memo_hits > 0 {
        let callers = names(step.memo_callers.iter().take(20).map(ToString::to_string).collect());
        line("memo", &format!("answered {} later calls of the run, of {callers}", step.memo_hits));
    }
    if !shown.borrowers.is_empty() {
        line("taken by", &names(shown.borrowers.iter().take(20).map(ToString::to_string).collect()));
    }
    for child in &shown.children {
        let what = format!(
            "{} {} {}  {}",
            child.id,
            clean(tree::short_target(&child.target)),
            tree::short_arguments(&child.arguments, 40),
            tree::via(child)
        );
        line("calls", &what);
    }
    text
}
