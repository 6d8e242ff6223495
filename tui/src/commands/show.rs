//! `show`: a run, step or execution.

use std::fmt::Write as _;
use std::process::ExitCode;

use ibid::blocking::Client;
use ibid::model::{Id, RunId};
use ibid::protocol::{
    Anchor, AttemptView, Folds, GetRows, List, Row, Rows, RunView, Show, Shown, StepView, ValueView, length_in_words,
    size_in_words,
};

use crate::app::{arguments, steps};
use crate::context::{Context, Failure, Outcome};
use crate::output::{self, clean, clean_lines, moment};

/// How many lines of a run's tree are printed.
const LINES_MAX: u32 = 1000;

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
    let folds = Folds { all_groups: all, ..Folds::default() };
    let rows = client.call(GetRows {
        list: List::Steps { run: id, folds },
        filter: String::new(),
        sort: None,
        reverse: false,
        anchor: Anchor::First,
        before: 0,
        after: LINES_MAX,
    })?;
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
    text.push_str(&tree_text(&rows));
    let root = rows.rows.iter().filter_map(Row::step).find(|step| step.id == id.root());
    if let Some(root) = root.and_then(StepView::newest) {
        text.push_str(&ending(root));
    }
    Ok(text)
}

/// How wide the branches before a step may be, columns.
const BRANCHES_MAX: usize = 60;

fn tree_text(rows: &Rows) -> String {
    let now = output::now();
    let mut lines = Vec::new();
    for row in &rows.rows {
        match row {
            Row::Group(group) => {
                let glyph = steps::glyph(steps::weightiest(&group.states), false);
                lines.push(vec![
                    format!("{}{glyph} {} ×{}", branches(&group.branches), clean(&group.name), group.calls),
                    format!("{}…", group.first),
                    steps::counts(&group.states, false),
                    String::new(),
                ]);
            }
            Row::Step(row) => {
                let glyph = steps::glyph(steps::shown_state(&row.step), false);
                let arguments = steps::short_arguments(&row.step.arguments, 40);
                let name = clean(steps::short_target(&row.step.target));
                lines.push(vec![
                    format!("{}{glyph} {name} {arguments}", branches(&row.branches)).trim_end().to_owned(),
                    row.step.id.to_string(),
                    steps::via(&row.step),
                    steps::time(&row.step, now),
                ]);
            }
            _ => {}
        }
    }
    let mut text = output::table(&["STEP", "ID", "VIA", "TIME"], &lines);
    let shown = rows.rows.len() as u64;
    if rows.total > shown {
        let _infallible = writeln!(text, "… {} more", rows.total - shown);
    }
    text
}

/// The branches before a step; of one that is very deep its depth and the last of them.
fn branches(branches: &str) -> std::borrow::Cow<'_, str> {
    let width = branches.chars().count();
    if width <= BRANCHES_MAX {
        return branches.into();
    }
    let last: String = branches.chars().skip(width - BRANCHES_MAX / 2).collect();
    format!("{}…{last}", width / 2).into()
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
    if let Some(progress) = steps::progress(step) {
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
            clean(steps::short_target(&child.target)),
            steps::short_arguments(&child.arguments, 40),
            steps::via(child)
        );
        line("calls", &what);
    }
    text
}
