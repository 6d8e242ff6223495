//! The whole screen from the model.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::widgets::Paragraph;

use super::{listing, overlay, run, runs};
use crate::app::model::{Link, Model, Screen};
use crate::widgets::frame;

/// Draws everything.
pub fn draw(canvas: &mut Frame<'_>, model: &Model) {
    let area = canvas.area();
    if area.width < 20 || area.height < 6 {
        let running = model.stats.as_ref().map_or_else(String::new, |stats| format!("{} running", stats.running));
        let said = if model.link == Link::Connected { running } else { "not connected".to_owned() };
        canvas.render_widget(Paragraph::new(format!("ibid {said}")), area);
        return;
    }
    let edge = model.edge();
    let header = Rect { height: edge, ..area };
    let footer = Rect { y: area.y + area.height - edge, height: edge, ..area };
    let body = Rect { y: area.y + edge, height: area.height - 2 * edge, ..area };
    frame::header(canvas, header, model);
    match model.screen {
        Screen::Runs => runs::draw(canvas, body, model),
        Screen::Run(_) => run::draw(canvas, body, model),
        _ => listing::draw(canvas, body, model),
    }
    frame::footer(canvas, footer, model);
    overlay::draw(canvas, body, model);
    if model.ascii {
        to_ascii(canvas.buffer_mut());
    }
}

/// What the screens draw in other characters on purpose is drawn so by them; this is for the rest.
fn to_ascii(buffer: &mut ratatui::buffer::Buffer) {
    for cell in &mut buffer.content {
        let plain = match cell.symbol() {
            symbol if symbol.is_ascii() => continue,
            "·" => "-",
            "…" => "~",
            "↑" => "^",
            "›" | "→" => ">",
            "≠" => "!",
            "▏" => "_",
            "↪" => "&",
            _ => "?",
        };
        cell.set_symbol(plain);
    }
}
