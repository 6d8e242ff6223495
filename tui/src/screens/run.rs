//! Screen 2: one run. The tree and the time bars share their rows; beside them what is known of the
//! selected step, below the log of the execution that does its work.

use ibid::model::{Cache, Decision, State};
use ibid::protocol::{AttemptView, Row, StepView, TreeGroup, TreeStep, ValueView, length_in_words, size_in_words};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthStr as _;

use super::runs::via as run_via;
use super::{listing, log};
use crate::app::graph;
use crate::app::listings::key_name;
use crate::app::model::{Model, Pane, Tab};
use crate::app::steps::{self, glyph, shorten};
use crate::output::{clean, clock};
use crate::widgets::{bars, frame, style};

pub fn draw(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    match model.tab {
        Tab::Log => return log::draw(canvas, area, model),
        Tab::Key => return draw_key(canvas, area, model),
        Tab::Graph => return draw_graph(canvas, area, model),
        Tab::Tree => {}
    }
    if model.one_pane() {
        match model.pane {
            Pane::Tree => draw_tree(canvas, area, model),
            Pane::Inspector => draw_inspector(canvas, area, model),
            Pane::Log => log::draw(canvas, area, model),
        }
        return;
    }
    let log = model.log_height();
    let above = area.height.saturating_sub(log);
    let inspector = (area.width * 2 / 5).min(50);
    draw_tree(canvas, Rect { width: area.width.saturating_sub(inspector), height: above, ..area }, model);
    draw_inspector(
        canvas,
        Rect { x: area.x + area.width.saturating_sub(inspector), width: inspector, height: above, ..area },
        model,
    );
    log::draw(canvas, Rect { y: area.y + above, height: log, ..area }, model);
}

/// The key of the selected step: all that ran, joined and took it.
fn draw_key(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    if model.selected_step().is_none_or(|step| step.key.is_none()) {
        let block = frame::block("key", model.ascii, true);
        let inner = block.inner(area);
        canvas.render_widget(block, area);
        let text = " it has no key: caching is off for it, so it can neither take a result nor be taken";
        canvas.render_widget(Paragraph::new(text), inner);
        return;
    }
    let title = match &model.key.head {
        ibid::protocol::Head::Key(summary) => key_name(summary),
        _ => "key".to_owned(),
    };
    listing::draw_key(canvas, area, model, &model.key, &title);
}

/// What the selected step depends on, and what depends on it.
fn draw_graph(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    let title = model.looked_at.map_or_else(|| "graph".to_owned(), |step| format!("what {step} hangs together with"));
    let block = frame::block(&title, model.ascii, true);
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    let lines = graph::lines(model);
    if lines.is_empty() {
        let text = if model.selected_group().is_some() { " select one call of the group" } else { " loading" };
        canvas.render_widget(Paragraph::new(text), inner);
        return;
    }
    let (page, width) = (usize::from(inner.height).max(1), usize::from(inner.width));
    let offset = (model.graph_selected + 1).saturating_sub(page);
    let mut shown = Vec::new();
    for (at, line) in lines.iter().enumerate().skip(offset).take(page) {
        let selected = at == model.graph_selected;
        if selected {
            let y = inner.y + u16::try_from(at - offset).unwrap_or(0);
            canvas.set_cursor_position(Position { x: inner.x, y });
        }
        let text = shorten(&graph::text(line, model.ascii), width.saturating_sub(3));
        let look = match (selected, line.is_self) {
            (true, _) => style::selected(),
            (false, true) => style::strong(),
            _ => line.state.map_or_else(Style::default, |state| style::state(state, model.colour)),
        };
        shown.push(Line::from(vec![Span::raw(frame::mark(selected, false)), Span::styled(text, look)]));
    }
    canvas.render_widget(Paragraph::new(shown), inner);
}

/// How wide the columns of the tree are.
struct Columns {
    step: usize,
    via: usize,
    time: usize,
    bar: usize,
}

impl Columns {
    fn of(width: usize) -> Self {
        match width {
            0..34 => Self { step: width, via: 0, time: 0, bar: 0 },
            34..56 => Self { step: width - 11, via: 0, time: 11, bar: 0 },
            56..64 => Self { step: width - 28, via: 15, time: 13, bar: 0 },
            64..96 => Self { step: width - 42, via: 15, time: 13, bar: 14 },
            _ => Self { step: width - 29 - width / 4, via: 16, time: 13, bar: width / 4 },
        }
    }
}

fn draw_tree(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    let window = &model.main;
    let title = match model.run() {
        Some(run) => {
            let shown = if window.filter.is_empty() { String::new() } else { format!("{} of ", window.total) };
            format!(
                "{} {} · {shown}{} steps · {}",
                run.id,
                steps::short_target(&run.target),
                run.counts.steps,
                run_via(run, model.ascii)
            )
        }
        None => "loading the run".to_owned(),
    };
    let block = frame::list_block(&title, window, model, model.pane == Pane::Tree);
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    let width = usize::from(inner.width);
    let columns = Columns::of(width.saturating_sub(2));
    let (from, to) = span(model);
    let mut heading =
        format!("  {}{}{}", pad("step", columns.step), pad("via", columns.via), pad("time", columns.time));
    if columns.bar > 0 {
        let (start, end) = ("0", length_in_words((to - from).max(0).cast_unsigned()));
        let gap = columns.bar.saturating_sub(start.len() + end.width());
        heading.push_str(&format!("{start}{}{end}", " ".repeat(gap)));
    }
    let mut lines = vec![Line::from(Span::styled(shorten(&heading, width), style::quiet()))];
    if window.known && window.total == 0 {
        lines.push(Line::raw(" no step matches; esc clears the filter"));
    }
    let page = u64::from(inner.height.saturating_sub(1));
    for place in window.offset..window.offset + page {
        let Some(row) = window.row(place) else { break };
        let selected = place == window.index;
        if selected {
            let y = inner.y + 1 + u16::try_from(place - window.offset).unwrap_or(0);
            canvas.set_cursor_position(Position { x: inner.x, y });
        }
        match row {
            Row::Group(group) => lines.push(group_line(model, group, selected, &columns)),
            Row::Step(row) => lines.push(tree_line(model, row, selected, &columns, (from, to))),
            _ => {}
        }
    }
    canvas.render_widget(Paragraph::new(lines), inner);
}

/// Of branches that leave no room for the name the nearest are shown.
fn branches(branches: &str, columns: &Columns, ascii: bool) -> String {
    let branches =
        if ascii { branches.replace(['│'], "|").replace(['├', '└'], "`") } else { branches.to_owned() };
    let over = (branches.width() + 12).saturating_sub(columns.step);
    if over == 0 || branches.width() <= over + 1 {
        return branches;
    }
    branches.chars().skip(over + 1).fold("…".to_owned(), |mut text, c| {
        text.push(c);
        text
    })
}

/// A group: how many calls, and how they came out so far.
fn group_line(model: &Model, group: &TreeGroup, selected: bool, columns: &Columns) -> Line<'static> {
    let branches = branches(&group.branches, columns, model.ascii);
    let state = steps::weightiest(&group.states);
    let fold = if group.unfolded { "" } else { "+" };
    let room = columns.step.saturating_sub(branches.width() + 2);
    let times = if model.ascii { "x" } else { "×" };
    let name = format!(" {}", shorten(&format!("{fold}{} {times}{}", clean(&group.name), group.calls), room));
    let gap = " ".repeat(columns.step.saturating_sub(branches.width() + 1 + name.width()));
    let body = if selected { style::selected() } else { style::strong() };
    Line::from(vec![
        Span::raw(frame::mark(selected, false)),
        Span::styled(branches, style::quiet()),
        Span::styled(glyph(state, model.ascii), style::state(state, model.colour)),
        Span::styled(name, body),
        Span::raw(gap),
        Span::raw(shorten(&steps::counts(&group.states, model.ascii), columns.via + columns.time)),
    ])
}

fn tree_line(
    model: &Model,
    row: &TreeStep,
    selected: bool,
    columns: &Columns,
    (from, to): (i64, i64),
) -> Line<'static> {
    let step = &row.step;
    let state = steps::shown_state(step);
    let branches = branches(&row.branches, columns, model.ascii);
    let fold = if row.has_children && model.folds.steps.contains(&step.id) { "+" } else { "" };
    let marked = model.marked.contains(&ibid::model::Id::Step(step.id));
    let followers = step.newest().map_or(0, |attempt| attempt.followers.len());
    let led = if followers > 0 { format!(" +{followers}") } else { String::new() };
    let room = columns.step.saturating_sub(branches.width() + 3 + led.width());
    let name =
        format!("{fold}{} {}", clean(steps::short_target(&step.target)), steps::short_arguments(&step.arguments, 60));
    let name = format!(" {}{led}", shorten(name.trim_end(), room.max(4)));
    let used = branches.width() + 1 + name.width();
    let gap = " ".repeat(columns.step.saturating_sub(used));
    let is_borrowed = matches!(step.state, State::Cached | State::Linked | State::Deferred)
        || step.newest().is_some_and(|attempt| attempt.leader.is_some());
    let via_style = if is_borrowed { style::borrowed(model.colour) } else { Style::default() };
    let body = if selected { style::selected() } else { Style::default() };
    let mut via = steps::via(step);
    if let Some(part) = steps::part_done(step).filter(|_| step.state == State::Running && columns.bar == 0) {
        via = format!("{:.0}%", part * 100.0);
    }
    if model.ascii {
        via = via.replace('↪', "&").replace('↷', "^");
    }
    let mut spans = vec![
        Span::raw(frame::mark(selected, marked)),
        Span::styled(branches, style::quiet()),
        Span::styled(glyph(state, model.ascii), style::state(state, model.colour)),
        Span::styled(name, body),
        Span::raw(gap),
        Span::styled(pad(&via, columns.via), via_style),
        Span::raw(pad(&steps::time(step, model.now), columns.time)),
    ];
    if columns.bar > 0 {
        let bar = match steps::part_done(step).filter(|_| step.state == State::Running) {
            Some(part) => bars::part(part, columns.bar.saturating_sub(1), model.ascii),
            None => bars::bar(step, from, to, columns.bar, model.ascii),
        };
        spans.push(Span::styled(
            bar,
            if is_borrowed { style::borrowed(model.colour) } else { style::state(state, model.colour) },
        ));
    }
    Line::from(spans)
}

/// A text in a column: cut or filled, with a space at its end.
fn pad(text: &str, width: usize) -> String {
    if width == 0 {
        return String::new();
    }
    let text = shorten(text, width - 1);
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// From the start of the run to its end, or now.
fn span(model: &Model) -> (i64, i64) {
    let from = model.run().map_or(model.now, |run| run.created);
    // A step that was run again on its own ends after the run did.
    let ends = model.main.rows.iter().filter_map(|row| row.step()?.newest());
    let unfinished = model.run().is_none_or(|run| run.ended.is_none());
    let last = ends.filter_map(|attempt| attempt.ended).chain(model.run().and_then(|run| run.ended)).max();
    let to = if unfinished { model.now } else { last.unwrap_or(model.now) };
    (from, to.max(from + 1))
}

fn draw_inspector(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    if let Some(group) = model.selected_group() {
        draw_group(canvas, area, model, group);
        return;
    }
    let step = model.selected_step();
    let title = step.map_or_else(String::new, |step| {
        let id = step.newest().map_or_else(|| step.id.to_string(), |attempt| attempt.id.to_string());
        format!("{id} {}", steps::short_target(&step.target))
    });
    let block = frame::block(&title, model.ascii, model.pane == Pane::Inspector);
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    let Some((step, attempt)) = step.and_then(|step| Some((step, step.newest()?))) else { return };
    let lines = inspector_lines(model, step, attempt, usize::from(inner.width));
    canvas.render_widget(Paragraph::new(lines), inner);
}

fn draw_group(canvas: &mut Frame<'_>, area: Rect, model: &Model, group: &TreeGroup) {
    let block = frame::block(&format!("group {}", clean(&group.name)), model.ascii, model.pane == Pane::Inspector);
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    let width = usize::from(inner.width);
    let mut lines = Vec::new();
    let mut field = |name: &str, value: String| lines.extend(frame::field(name, 10, &value, width));
    field("Calls", group.calls.to_string());
    field("So far", steps::counts(&group.states, model.ascii));
    field("Run time", length_in_words(group.spent));
    field("Keys", "l or enter unfolds, h folds".to_owned());
    canvas.render_widget(Paragraph::new(lines), inner);
}

fn inspector_lines(model: &Model, step: &StepView, attempt: &AttemptView, width: usize) -> Vec<Line<'static>> {
    let state = steps::shown_state(step);
    let mut lines = vec![Line::from(vec![
        Span::raw(" "),
        Span::styled(
            format!("{} {}", glyph(state, model.ascii), step.state.name().to_uppercase()),
            style::state(state, model.colour),
        ),
        Span::raw(format!("  {}", steps::time(step, model.now))),
    ])];
    let mut field = |name: &str, value: String| {
        if !value.is_empty() {
            lines.extend(frame::field(name, 10, &clean(&value), width));
        }
    };
    field("", attempt.detail.clone());
    if let Some(progress) = steps::progress(step) {
        field("Progress", progress);
    }
    match (attempt.source, attempt.leader) {
        (Some(source), _) => {
            let elsewhere = attempt.source_environment.as_ref();
            let elsewhere = elsewhere.map_or_else(String::new, |environment| format!(" in {environment}"));
            field("From", format!("{source}{elsewhere}   gf"));
        }
        (None, Some(leader)) => field("Doing it", format!("{leader}   gf")),
        (None, None) => {}
    }
    if let Some(successor) = attempt.successor {
        field("Newer", format!("{successor}   gf"));
    }
    for waited in &attempt.blocked_by {
        field("Waits for", waited.to_string());
    }
    if !attempt.superseded.is_empty() {
        let count = attempt.superseded.len();
        field("Replaces", format!("{count} older {}", if count == 1 { "call" } else { "calls" }));
    }
    if step.memo_hits > 0 {
        let times = if step.memo_hits == 1 { "call" } else { "calls" };
        field("Memo", format!("answered {} later {times} of the run", step.memo_hits));
    }
    if let Some(group) = &step.group {
        field("Group", group.clone());
    }
    if let Some(run) = attempt.run {
        field("Run", format!("{run}   gf"));
    }
    if !attempt.followers.is_empty() {
        let others = attempt.followers.len();
        field("Leads", format!("{others} {} for this   gF", if others == 1 { "waits" } else { "wait" }));
    }
    if attempt.successor.is_none() {
        field("Why (e)", why(attempt));
    }
    if let Some(key) = &step.key {
        field("Key", format!("k:{}  {}   gk", key.chars().take(8).collect::<String>(), step.namespace));
        if let Cache::MaxAge(age) = step.options.cache {
            field("Max age", length_in_words(age));
        }
    }
    for argument in &step.arguments {
        field("Argument", format!("{} = {}", argument.name, value_text(&argument.value)));
    }
    match (&attempt.result, &attempt.error) {
        (_, Some(error)) => field("Error", format!("{}: {}", error.kind, error.message)),
        (Some(value), None) => field("Result", value_text(value)),
        (None, None) if attempt.successor.is_some() => {}
        (None, None) => field("Result", "none yet".to_owned()),
    }
    match step.caller {
        Some(caller) => field("Asked by", format!("{caller}   gp")),
        None => field(
            "Asked by",
            model.run().and_then(|run| run.caller).map_or_else(|| "hand".to_owned(), |caller| format!("{caller}   gp")),
        ),
    }
    if step.attempts.len() > 1 || step.options.retries.limit > 0 {
        field(
            "Attempts",
            format!("{} made, up to {} retries each time", step.attempts.len(), step.options.retries.limit),
        );
    }
    field("Created", clock(attempt.created));
    if let Some(started) = attempt.started {
        field("Started", format!("{} on w-{}", clock(started), attempt.worker.unwrap_or(0)));
    }
    if let Some(ended) = attempt.ended {
        field("Ended", clock(ended));
    }
    lines
}

fn why(attempt: &AttemptView) -> String {
    match &attempt.decision {
        Decision::Hit { source, age, duration } => {
            format!("took {source}, {} old; saved {}", length_in_words(*age), length_in_words(*duration))
        }
        Decision::Linked { leader } => format!("same call as {leader}, which was under way"),
        Decision::Off => "caching is off".to_owned(),
        Decision::ByHand => "started by hand".to_owned(),
        Decision::Forced => "forced by a re-run".to_owned(),
        Decision::Retry { after } => format!("{after} ended badly"),
        Decision::NoStableDigest { argument } => format!("argument {argument} has no stable digest"),
        Decision::WouldWaitForItself { leader } => format!("linked to {leader} it would have waited for itself"),
        Decision::Deferring => "looked up when it is due".to_owned(),
        Decision::Restarted { after } => format!("kept running after {after}"),
        Decision::Miss(miss) => match miss {
            ibid::model::Miss::NoMatch => "no earlier call is the same".to_owned(),
            ibid::model::Miss::TooOld { source, age, .. } => format!("{source} is too old: {}", length_in_words(*age)),
            ibid::model::Miss::LastFailed { execution } => format!("{execution} did not succeed"),
            ibid::model::Miss::OtherEnvironment { environment, .. } => format!("its result is in {environment}"),
            ibid::model::Miss::Forgotten { execution, .. } => {
                format!("the result of {execution} was forgotten by hand")
            }
            ibid::model::Miss::OwnAncestor { execution } => format!("{execution} is its own caller"),
        },
    }
}

fn value_text(value: &ValueView) -> String {
    match &value.value {
        Some(json) => shorten(json.as_str(), 300),
        None => format!("({})", size_in_words(value.size)),
    }
}
