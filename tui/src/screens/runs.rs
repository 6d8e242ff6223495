//! Screen 1: all runs, newest first, and what is known of the selected one.

use ibid::model::State;
use ibid::protocol::{Row, RunView, length_in_words};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::app::model::{Link, Model};
use crate::app::steps::{glyph, short_target, shorten};
use crate::output::{ago_shortly, clean, moment};
use crate::widgets::{frame, style};

pub fn draw(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    if model.main.known && model.main.all == 0 && model.main.filter.is_empty() && model.shown_scope.is_none() {
        return draw_empty(canvas, area, model);
    }
    let wide = area.width >= 112;
    let preview = if wide { 38 } else { 0 };
    let list = Rect { width: area.width - preview, ..area };
    draw_list(canvas, list, model);
    if wide {
        draw_preview(canvas, Rect { x: area.x + list.width, width: preview, ..area }, model);
    }
}

fn draw_list(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    let window = &model.main;
    let mut title = match (window.known, &model.link) {
        (true, _) if window.total == window.all => format!("runs · {}", window.total),
        (true, _) => format!("runs · {} of {}", window.total, window.all),
        (false, Link::Connected) => "loading the runs".to_owned(),
        (false, Link::Wrong(_)) => "no runs to show".to_owned(),
        (false, _) => "waiting for the daemon".to_owned(),
    };
    if let Some(scope) = &model.shown_scope {
        title.push_str(&format!(" · {}/{}", scope.project, scope.environment));
    }
    if window.new_above > 0 {
        title.push_str(&format!(" · {} new ↑", window.new_above));
    }
    let block = frame::list_block(&title, window, model, true);
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    if let Link::Wrong(why) = &model.link
        && !window.known
    {
        let text = crate::output::clean_lines(why);
        canvas.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: false }), inner);
        return;
    }
    let width = usize::from(inner.width);
    let mut lines = vec![Line::from(Span::styled(shorten(&heading(width), width), style::quiet()))];
    if window.known && window.total == 0 {
        lines.push(Line::raw(" no run matches; esc clears the filter"));
    }
    let rows = u64::from(inner.height.saturating_sub(1));
    for place in window.offset..window.offset + rows {
        let Some(Row::Run(run)) = window.row(place) else { break };
        let selected = place == window.index;
        if selected {
            let y = inner.y + 1 + u16::try_from(place - window.offset).unwrap_or(0);
            canvas.set_cursor_position(Position { x: inner.x, y });
        }
        lines.push(row(run, model, selected, width));
    }
    canvas.render_widget(Paragraph::new(lines), inner);
}

/// Columns beside the target's: mark, glyph, run, steps, reused, time and age.
const FIXED: usize = 2 + 2 + 8 + 18 + 6 + 9 + 2 + 12;

/// How wide the target's column is; `None` where there is room for little else.
fn target_width(width: usize) -> Option<usize> {
    width.checked_sub(FIXED).filter(|left| *left >= 8).map(|left| left.min(48))
}

fn heading(width: usize) -> String {
    match target_width(width) {
        None => "    run     target".to_owned(),
        Some(target) => {
            format!("    {:<8}{:<target$}{:<18}{:>5} {:>9}  started", "run", "target", "steps", "hit", "time")
        }
    }
}

fn row(run: &RunView, model: &Model, selected: bool, width: usize) -> Line<'static> {
    let lasted = lasted(run, model.now);
    let target = clean(&run.target);
    let id = run.id.to_string();
    let rest = match target_width(width) {
        None => format!("{id:<7} {} {lasted}", fitted(&target, width.saturating_sub(21))),
        Some(room) => format!(
            "{id:<7} {:<room$}{:<18}{:>5} {lasted:>9}  {}",
            fitted(&target, room - 1),
            shorten(&via(run, model.ascii), 17),
            reused(run).map_or_else(String::new, |percent| format!("{percent}%")),
            ago_shortly(run.created, model.now)
        ),
    };
    let body = if selected { style::selected() } else { ratatui::style::Style::default() };
    Line::from(vec![
        Span::raw(frame::mark(selected, model.marked.contains(&ibid::model::Id::Run(run.id)))),
        Span::styled(format!("{} ", glyph(run.state, model.ascii)), style::state(run.state, model.colour)),
        Span::styled(shorten(&rest, width.saturating_sub(4)), body),
    ])
}

/// A target's name; where it does not fit without its repository.
fn fitted(target: &str, room: usize) -> String {
    if target.chars().count() <= room { target.to_owned() } else { shorten(short_target(target), room) }
}

/// How many of a hundred steps took or joined a result.
fn reused(run: &RunView) -> Option<u64> {
    (u64::from(run.counts.cached) * 100).checked_div(u64::from(run.counts.steps))
}

fn lasted(run: &RunView, now: i64) -> String {
    match run.ended {
        Some(ended) => length_in_words((ended - run.begun).max(0).cast_unsigned()),
        None => format!("{}+", length_in_words((now - run.begun).max(0).cast_unsigned() / 1000 * 1000)),
    }
}

/// Its steps by outcome, with glyphs: `✓12 =5 ↪3 ▸1`.
pub fn via(run: &RunView, ascii: bool) -> String {
    let counts = &run.counts;
    let own = |state| glyph(state, ascii);
    let parts = [
        (own(State::Succeeded), counts.ran),
        (own(State::Cached), counts.cached - counts.joined.min(counts.cached)),
        (own(State::Linked), counts.joined + counts.linked),
        (own(State::Running), counts.running + counts.spawned),
        (own(State::Queued), counts.queued),
        (own(State::Failed), counts.failed),
        (own(State::Cancelled), counts.cancelled),
    ];
    let shown: Vec<_> =
        parts.iter().filter(|(_, count)| *count > 0).map(|(glyph, count)| format!("{glyph}{count}")).collect();
    shown.join(" ")
}

fn draw_preview(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(run) = model.selected_run() else {
        canvas.render_widget(frame::block("", model.ascii, false), area);
        return;
    };
    let block = frame::block(&format!("{} {}", run.id, run.target), model.ascii, false);
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    let counts = &run.counts;
    let mut lines = vec![
        Line::from(vec![
            Span::raw(" "),
            Span::styled(
                format!("{} {}", glyph(run.state, model.ascii), run.state.name().to_uppercase()),
                style::state(run.state, model.colour),
            ),
            Span::raw(format!("  {}", lasted(run, model.now))),
        ]),
        Line::default(),
    ];
    let width = usize::from(inner.width);
    let mut field = |name: &str, value: String| lines.extend(frame::field(name, 10, &clean(&value), width));
    field("Started", moment(run.created));
    field("By", run.caller.map_or_else(|| "hand".to_owned(), |caller| caller.to_string()));
    field("Project", format!("{} / {}", run.project, run.environment));
    field("", String::new());
    field("Steps", counts.steps.to_string());
    field("Ran", counts.ran.to_string());
    field("Hits", (counts.cached - counts.joined.min(counts.cached)).to_string());
    field("Linked", (counts.joined + counts.linked).to_string());
    field("Failed", counts.failed.to_string());
    field("Reused", reused(run).map_or_else(String::new, |percent| format!("{percent} %")));
    field("Saved", length_in_words(counts.saved));
    canvas.render_widget(Paragraph::new(lines), inner);
}

/// What an empty daemon shows: where to begin.
fn draw_empty(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    let block = frame::block("nothing has run yet", model.ascii, true);
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    let (yes, no) = if model.ascii { ("v", "x") } else { ("✓", "✗") };
    let daemon = model.stats.as_ref().map_or_else(
        || format!(" {yes} daemon connected"),
        |stats| {
            let store = ibid::protocol::size_in_words(stats.disk_bytes);
            let targets = match stats.targets {
                0 => format!("{no} nothing registered"),
                count => format!("{yes} {count} targets registered"),
            };
            format!(
                " {yes} daemon started (pid {}, {} ms)   {yes} store {store}   {targets}",
                stats.pid, stats.start_took
            )
        },
    );
    let lines = vec![
        Line::raw(daemon),
        Line::default(),
        Line::raw(" ibid demo                     see hits and links happen      enter: run it"),
        Line::raw(" ibid register my.tasks        make a module's targets known"),
        Line::raw(" ibid run my.tasks/site        start a workflow of your own   R: start one"),
    ];
    canvas.render_widget(Paragraph::new(lines), inner);
}
