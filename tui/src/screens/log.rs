//! The log of the execution that does the work for the selected step.

use ibid::model::State;
use ibid::protocol::{Head, NumberedLine, Row, length_in_words};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthChar as _;

use crate::app::model::{Model, Pane, Tab, Times};
use crate::output::{clean, clock};
use crate::widgets::{ansi, frame, style};

pub fn draw(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    let window = &model.log;
    let active = model.tab == Tab::Log || model.pane == Pane::Log;
    let block = frame::block(&title(model), model.ascii, active);
    let block = block.title_top(Line::from(how(model)).right_aligned());
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    let (width, height) = (usize::from(inner.width).saturating_sub(1), usize::from(inner.height));
    if !window.wrong.is_empty() {
        canvas.render_widget(Paragraph::new(format!(" {}", clean(&window.wrong))), inner);
        return;
    }
    // From the line that is at the bottom upwards, until the pane is full.
    let mut lines: Vec<Line<'static>> = Vec::with_capacity(height);
    let loaded = (window.first + window.rows.len() as u64).saturating_sub(1);
    let bottom = match (window.at_end, model.wrap) {
        // Wrapped lines below it might leave no room for the one that was gone to.
        (true, _) | (_, true) => window.index,
        (false, false) => bottom(window.index, window.total, height).min(loaded),
    };
    let mut place = bottom;
    let mut cursor = None;
    while let Some(Row::Line(line)) = window.row(place) {
        let mut pieces = shown(line, model, width);
        if place == window.index {
            cursor = Some(lines.len());
        }
        while let Some(piece) = pieces.pop() {
            if lines.len() < height {
                lines.push(piece);
            }
        }
        if lines.len() >= height || place == 0 {
            break;
        }
        place -= 1;
    }
    if place == 0
        && lines.len() < height
        && let Head::Log { dropped, .. } = window.head
        && dropped > 0
    {
        let text = format!(" {} {dropped} earlier lines were dropped: the log was over its limit", model.ellipsis());
        lines.push(Line::from(Span::styled(text, style::quiet())));
    }
    lines.reverse();
    if active && let Some(from_bottom) = cursor {
        let y = lines.len().saturating_sub(from_bottom + 1);
        canvas.set_cursor_position(Position { x: inner.x, y: inner.y + u16::try_from(y).unwrap_or(0) });
    }
    canvas.render_widget(Paragraph::new(lines), inner);
}

/// The line at the bottom while the log stays: the one that was gone to has some below it.
fn bottom(index: u64, total: u64, height: usize) -> u64 {
    let height = height as u64;
    (index + height / 3).max(height.saturating_sub(1)).min(total.saturating_sub(1))
}

fn title(model: &Model) -> String {
    if model.selected_group().is_some() {
        return "log: select one call of the group".to_owned();
    }
    match (&model.log.head, model.looked_at) {
        (Head::Log { execution, .. }, Some(step)) if execution.step != step => {
            format!("log of {execution}, the execution doing the work for {step}")
        }
        (Head::Log { execution, .. }, _) => format!("log of {execution}"),
        (_, Some(step)) => format!("log of {step}"),
        (_, None) => "log".to_owned(),
    }
}

/// How the log is shown, for the right of its title.
fn how(model: &Model) -> String {
    let window = &model.log;
    let mut parts = Vec::new();
    if window.known && window.total == 0 {
        return " nothing written ".to_owned();
    }
    if window.paused {
        parts.push(format!("paused, {} behind", window.behind));
    } else if window.at_end {
        parts.push("follow".to_owned());
    } else if window.total > 0 {
        parts.push(format!("{} of {}, G follows", window.index + 1, window.total));
    }
    if model.wrap {
        parts.push("wrap".to_owned());
    }
    if !model.log_search.is_empty() {
        parts.push(format!("/{} n N", clean(&model.log_search)));
    }
    if parts.is_empty() { String::new() } else { format!(" {} ", parts.join(" · ")) }
}

/// A line as the lines of the screen that it takes.
fn shown(line: &NumberedLine, model: &Model, width: usize) -> Vec<Line<'static>> {
    let emphasis = match line.line.level.as_str() {
        "error" => style::state(State::Failed, model.colour),
        "warning" => style::state(State::Cancelled, model.colour),
        "debug" => style::quiet(),
        _ => Style::default(),
    };
    let mut spans = Vec::new();
    match model.times {
        Times::OfDay => spans.push(Span::styled(format!("{} ", clock(line.line.at)), style::quiet())),
        Times::SinceStart => {
            let started = model.selected_step().and_then(|step| step.newest()?.started);
            let since = (line.line.at - started.unwrap_or(line.line.at)).max(0).cast_unsigned();
            spans.push(Span::styled(format!("{:>8} ", length_in_words(since)), style::quiet()));
        }
        Times::None => {}
    }
    if !matches!(line.line.level.as_str(), "stdout" | "stderr") {
        spans.push(Span::styled(format!("{:<7} ", clean(&line.line.level)), emphasis));
    } else if line.line.level == "stderr" {
        spans.push(Span::styled("stderr  ", style::quiet()));
    }
    spans.extend(ansi::spans(&line.line.text, emphasis, model.colour != style::Colours::None));
    for (name, value) in &line.line.values {
        spans.push(Span::styled(format!("  {}=", clean(name)), style::quiet()));
        spans.push(Span::raw(clean(value.as_str())));
    }
    let spans = if model.log_search.is_empty() { spans } else { highlighted(spans, &model.log_search) };
    let width = width.max(1);
    if model.wrap { wrapped(spans, width) } else { vec![cut(spans, width, model)] }
}

/// The first so many columns.
fn cut(spans: Vec<Span<'static>>, width: usize, model: &Model) -> Line<'static> {
    let whole: usize = spans.iter().map(Span::width).sum();
    if whole <= width {
        return padded(spans);
    }
    let mut left = width - 1;
    let mut kept = Vec::new();
    for span in spans {
        let mut text = String::new();
        for c in span.content.chars() {
            let columns = c.width().unwrap_or(0);
            if columns > left {
                left = 0;
                break;
            }
            left -= columns;
            text.push(c);
        }
        kept.push(Span::styled(text, span.style));
        if left == 0 {
            break;
        }
    }
    kept.push(Span::styled(model.ellipsis(), style::quiet()));
    padded(kept)
}

fn padded(mut spans: Vec<Span<'static>>) -> Line<'static> {
    spans.insert(0, Span::raw(" "));
    Line::from(spans)
}

/// All of it, on as many lines as that takes.
fn wrapped(spans: Vec<Span<'static>>, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let (mut current, mut used) = (Vec::new(), 0);
    for span in spans {
        let mut text = String::new();
        for c in span.content.chars() {
            let columns = c.width().unwrap_or(0);
            if used + columns > width {
                current.push(Span::styled(std::mem::take(&mut text), span.style));
                lines.push(padded(std::mem::take(&mut current)));
                used = 0;
            }
            used += columns;
            text.push(c);
        }
        current.push(Span::styled(text, span.style));
    }
    lines.push(padded(current));
    lines
}

/// The places that have the text, in reverse.
fn highlighted(spans: Vec<Span<'static>>, search: &str) -> Vec<Span<'static>> {
    let search: Vec<char> = search.to_lowercase().chars().collect();
    let mut out = Vec::new();
    for span in spans {
        let chars: Vec<char> = span.content.chars().collect();
        let lower: Vec<char> = chars.iter().map(|c| c.to_lowercase().next().unwrap_or(*c)).collect();
        let (mut start, mut at) = (0, 0);
        while !search.is_empty() && at + search.len() <= lower.len() {
            if lower[at..at + search.len()] == search[..] {
                out.push(Span::styled(chars[start..at].iter().collect::<String>(), span.style));
                let found: String = chars[at..at + search.len()].iter().collect();
                out.push(Span::styled(found, span.style.add_modifier(Modifier::REVERSED)));
                at += search.len();
                start = at;
            } else {
                at += 1;
            }
        }
        out.push(Span::styled(chars[start..].iter().collect::<String>(), span.style));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &Line<'_>) -> String {
        line.spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn long_lines_are_wrapped_by_what_they_take_on_the_screen() {
        let lines = wrapped(vec![Span::raw("abc"), Span::raw("日本語d")], 4);
        assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), [" abc", " 日本", " 語d"]);
        assert_eq!(wrapped(vec![Span::raw("")], 4).len(), 1);
    }

    #[test]
    fn what_was_searched_for_is_in_reverse_wherever_it_stands() {
        let spans = highlighted(vec![Span::raw("one Two oNe")], "one");
        let reversed: Vec<_> = spans
            .iter()
            .filter(|span| span.style.add_modifier.contains(Modifier::REVERSED))
            .map(|span| span.content.to_string())
            .collect();
        assert_eq!(reversed, ["one", "oNe"]);
        assert_eq!(spans.iter().map(|span| span.content.as_ref()).collect::<String>(), "one Two oNe");
    }

    #[test]
    fn a_log_that_stays_shows_what_comes_after_the_line_gone_to() {
        assert_eq!(bottom(50, 1000, 9), 53);
        assert_eq!(bottom(0, 1000, 9), 8);
        assert_eq!(bottom(999, 1000, 9), 999);
        assert_eq!(bottom(0, 3, 9), 2);
    }
}
