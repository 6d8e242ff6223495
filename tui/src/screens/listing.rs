//! Screens 3 to 6 and a key: one list each.

use ibid::protocol::Head;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthStr as _;

use crate::app::listings::{self, Cells, DISPENSABLE, NUMBERS, SUMMARY_LINES};
use crate::app::model::{Model, Screen};
use crate::app::steps::{glyph, shorten};
use crate::app::window::Window;
use crate::widgets::{frame, style};

pub fn draw(canvas: &mut Frame<'_>, area: Rect, model: &Model) {
    let (title, headings) = listings::title(model);
    if matches!(model.screen, Screen::Key(_)) {
        return draw_key(canvas, area, model, &model.main, &title);
    }
    let known = match model.screen {
        Screen::Workers => model.workers_known,
        Screen::Daemon => true,
        _ => model.main.known,
    };
    let plain = listings::plain_rows(model);
    let rows = if model.main.list.is_some() {
        visible(&model.main, area, model.now)
    } else {
        let offset = usize::try_from(model.main.offset).unwrap_or(usize::MAX).min(plain.len());
        (model.main.offset.., plain[offset..].to_vec())
    };
    let nothing = match (&model.screen, known, model.main.filter.is_empty()) {
        (_, false, _) => " loading",
        (_, true, false) => " nothing matches the filter; esc clears it",
        (Screen::Queue, ..) => " nothing waits",
        (Screen::Workers, ..) => " no workers; they are started when there is work",
        (Screen::Daemon, ..) => " nothing is known of the daemon yet",
        _ => " nothing is remembered here yet: tasks with caching on appear when they have run",
    };
    let wrong = if model.main.wrong.is_empty() { nothing.to_owned() } else { format!(" {}", model.main.wrong) };
    let block = frame::list_block(&title, &model.main, model, true);
    table(canvas, area, block, headings, rows, &model.main, model, &wrong);
}

/// A key: what ran, joined and took it, and what it is doing now.
pub fn draw_key(canvas: &mut Frame<'_>, area: Rect, model: &Model, window: &Window, title: &str) {
    let below = SUMMARY_LINES.min(area.height / 2);
    let above = Rect { height: area.height - below, ..area };
    let headings = &["execution", "run", "time", "when", "for this key"];
    let block = frame::list_block(title, window, model, true);
    let nothing = match (window.known, window.wrong.is_empty()) {
        (_, false) => format!(" {}", window.wrong),
        (false, true) => " loading".to_owned(),
        (true, true) => " nothing matches the filter; esc clears it".to_owned(),
    };
    table(canvas, above, block, headings, visible(window, above, model.now), window, model, &nothing);
    let place = Rect { y: area.y + above.height, height: below, ..area };
    let block = frame::block("what this key is doing now", model.ascii, false);
    let inner = block.inner(place);
    canvas.render_widget(block, place);
    if let Head::Key(summary) = &window.head {
        let width = usize::from(inner.width);
        let lines = listings::summary(summary, model.now);
        let lines: Vec<_> =
            lines.iter().map(|line| Line::raw(format!(" {}", shorten(line, width.saturating_sub(1))))).collect();
        canvas.render_widget(Paragraph::new(lines), inner);
    }
}

type Rows = (std::ops::RangeFrom<u64>, Vec<Cells>);

/// The rows that are on the screen.
fn visible(window: &Window, area: Rect, now: i64) -> Rows {
    let page = u64::from(area.height.saturating_sub(3));
    let rows = (window.offset..window.offset + page).map_while(|place| window.row(place));
    (window.offset.., rows.map(|row| listings::cells(row, now)).collect())
}

#[expect(clippy::too_many_arguments, reason = "what is drawn, where, and what stands in for nothing")]
fn table(
    canvas: &mut Frame<'_>,
    area: Rect,
    block: ratatui::widgets::Block<'static>,
    headings: &[&str],
    (places, rows): Rows,
    window: &Window,
    model: &Model,
    nothing: &str,
) {
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    let width = usize::from(inner.width);
    if rows.is_empty() {
        canvas.render_widget(Paragraph::new(nothing.to_owned()), inner);
        return;
    }
    let page = usize::from(inner.height).saturating_sub(1);
    let widths = widths(headings, &rows, width.saturating_sub(4));
    let columns: Vec<Column> =
        headings.iter().zip(widths).map(|(name, width)| Column { width, right: NUMBERS.contains(name) }).collect();
    let heading = headings.iter().zip(&columns).map(|(name, column)| column.pad(name)).collect::<String>();
    let mut lines = vec![Line::from(Span::styled(shorten(&format!("    {heading}"), width), style::quiet()))];
    for (place, row) in places.zip(rows.iter().take(page)) {
        let selected = place == window.index;
        if selected {
            let y = inner.y + 1 + u16::try_from(place - window.offset).unwrap_or(0);
            canvas.set_cursor_position(Position { x: inner.x, y });
        }
        let id = window.row(place).map(ibid::protocol::Row::key);
        let marked = id.is_some_and(|id| model.marked.iter().any(|marked| marked.to_string() == id));
        lines.push(line(row, &columns, selected, marked, model));
    }
    canvas.render_widget(Paragraph::new(lines), inner);
}

/// Each column as wide as its widest cell, two spaces apart. Where there is no room some columns go, then
/// the widest gives way.
fn widths(headings: &[&str], rows: &[Cells], room: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.width() + 2).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.width() + 2);
        }
    }
    for column in DISPENSABLE {
        if widths.iter().sum::<usize>() <= room || headings.len() < 6 {
            break;
        }
        if let Some(at) = headings.iter().position(|heading| *heading == column) {
            widths[at] = 0;
        }
    }
    while widths.iter().sum::<usize>() > room {
        let Some(widest) = widths.iter_mut().max() else { break };
        if *widest <= 6 {
            break;
        }
        *widest -= 1;
    }
    widths
}

fn line(row: &Cells, columns: &[Column], selected: bool, marked: bool, model: &Model) -> Line<'static> {
    let mark = row.state.map_or(" ", |state| glyph(state, model.ascii));
    let mark_style = row.state.map_or_else(Style::default, |state| style::state(state, model.colour));
    let body: String = row.cells.iter().zip(columns).map(|(cell, column)| column.pad(cell)).collect();
    let body = body.trim_end().to_owned();
    Line::from(vec![
        Span::raw(frame::mark(selected, marked)),
        Span::styled(mark, mark_style),
        Span::raw(" "),
        Span::styled(body, if selected { style::selected() } else { Style::default() }),
    ])
}

/// A column of a list.
struct Column {
    width: usize,
    right: bool,
}

impl Column {
    /// A text in the column: cut or filled, with two spaces at its end.
    fn pad(&self, text: &str) -> String {
        if self.width == 0 {
            return String::new();
        }
        let text = shorten(text, self.width.saturating_sub(2));
        let gap = " ".repeat(self.width.saturating_sub(text.width() + 2));
        if self.right { format!("{gap}{text}  ") } else { format!("{text}{gap}  ") }
    }
}
