//! Screens 3 to 6: one list each.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthStr as _;

use crate::app::listings::{Listing, Row};
use crate::app::model::Model;
use crate::app::tree::{glyph, shorten};
use crate::widgets::{frame, style};

pub fn draw(canvas: &mut Frame<'_>, area: Rect, model: &Model, listing: Listing) {
    let rows = model.listed();
    let (title, headings) = model.listing_title(listing, rows.len());
    let block = frame::block(&title, model.ascii, true);
    let inner = block.inner(area);
    canvas.render_widget(block, area);
    let width = usize::from(inner.width);
    if rows.is_empty() {
        let text = if !model.listings.known {
            " loading"
        } else if !model.filter.is_empty() {
            " nothing matches the filter"
        } else {
            nothing(listing)
        };
        canvas.render_widget(Paragraph::new(text), inner);
        return;
    }
    let page = usize::from(inner.height).saturating_sub(1);
    let shown = &rows[model.listings.offset.min(rows.len())..];
    let widths = widths(headings, &rows, width.saturating_sub(4));
    let heading = headings.iter().zip(&widths).map(|(name, width)| pad(name, *width)).collect::<String>();
    let mut lines = vec![Line::from(Span::styled(shorten(&format!("    {heading}"), width), style::quiet()))];
    let place = model.listing_place(&rows);
    for (index, row) in shown.iter().take(page).enumerate() {
        let selected = model.listings.offset + index == place;
        if selected {
            let y = inner.y + 1 + u16::try_from(index).unwrap_or(0);
            canvas.set_cursor_position(Position { x: inner.x, y });
        }
        lines.push(line(row, &widths, selected, model));
    }
    canvas.render_widget(Paragraph::new(lines), inner);
}

const fn nothing(listing: Listing) -> &'static str {
    match listing {
        Listing::Queue => " nothing waits",
        Listing::Cache => " nothing is remembered here yet: tasks with caching on appear when they have run",
        Listing::Workers => " no workers; they are started when there is work",
        Listing::Daemon => " nothing is known of the daemon yet",
    }
}

/// Each column as wide as its widest cell, two spaces apart; the widest gives way where there is no room.
fn widths(headings: &[&str], rows: &[Row], room: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.width() + 2).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.width() + 2);
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

fn line(row: &Row, widths: &[usize], selected: bool, model: &Model) -> Line<'static> {
    let mark = row.state.map_or(" ", |state| glyph(state, model.ascii));
    let mark_style = row.state.map_or_else(Style::default, |state| style::state(state, model.colour));
    let body: String = row.cells.iter().zip(widths).map(|(cell, width)| pad(cell, *width)).collect();
    let body = body.trim_end().to_owned();
    Line::from(vec![
        Span::raw(if selected { "> " } else { "  " }),
        Span::styled(mark, mark_style),
        Span::raw(" "),
        Span::styled(body, if selected { style::selected() } else { Style::default() }),
    ])
}

fn pad(text: &str, width: usize) -> String {
    let text = shorten(text, width.saturating_sub(2));
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}
