//! What surrounds every screen: where you are, how the daemon is, what the keys do.

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Borders, Paragraph};

use ibid::protocol::length_in_words;
use unicode_width::UnicodeWidthStr as _;

use super::style;
use crate::app::actions::{self, Place};
use crate::app::listings::Listing;
use crate::app::model::{Link, Model, Pane, Screen};
use crate::app::tree::shorten;
use crate::output::clean;

/// A box with a title.
pub fn block(title: &str, ascii: bool, active: bool) -> Block<'static> {
    let block = Block::default().borders(Borders::ALL).title(format!(" {} ", clean(title)));
    let block = if active { block.title_style(style::strong()) } else { block };
    if ascii {
        return block.border_set(ratatui::symbols::border::Set {
            top_left: "+",
            top_right: "+",
            bottom_left: "+",
            bottom_right: "+",
            vertical_left: "|",
            vertical_right: "|",
            horizontal_top: "-",
            horizontal_bottom: "-",
        });
    }
    block.border_type(BorderType::Plain)
}

/// A named value; what does not fit on its line goes on below itself, not below the name.
pub fn field(name: &str, indent: usize, value: &str, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(indent + 1).max(8);
    let mut pieces = vec![String::new()];
    for word in value.split(' ') {
        let mut rest = word;
        let last = pieces.last().map_or(0, |piece| piece.width());
        if last > 0 && last + 1 + rest.width() > room {
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut().filter(|piece| !piece.is_empty()) {
            piece.push(' ');
        }
        // A word that is wider than the whole room is cut.
        while rest.chars().count() > room {
            let cut = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
            if let Some(piece) = pieces.last_mut() {
                piece.push_str(&rest[..cut]);
            }
            rest = &rest[cut..];
            pieces.push(String::new());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push_str(rest);
        }
    }
    let names = std::iter::once(name).chain(std::iter::repeat(""));
    let line = |(name, piece): (&str, String)| {
        Line::from(vec![Span::styled(format!(" {name:<indent$}"), style::quiet()), Span::raw(piece)])
    };
    names.zip(pieces).map(line).collect()
}

/// The two lines at the top.
pub fn header(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let mut place = match model.screen {
        Screen::Runs | Screen::Run(_) => " ibid  Runs".to_owned(),
        Screen::List(listing) => format!(" ibid  {listing:?}"),
    };
    let between = if model.ascii { " > " } else { " › " };
    if let Screen::Run(run) = model.screen {
        place.push_str(&format!("{between}{run}"));
        match (model.selected_group(), model.looked.selected) {
            (Some(group), _) => place.push_str(&format!("{between}{}", clean(&group.name))),
            (None, Some(step)) => place.push_str(&format!("{between}{step}")),
            (None, None) => {}
        }
    }
    let status = status(model, usize::from(area.width).saturating_sub(place.width() + 2));
    let top = Rect { height: 1.min(area.height), ..area };
    frame.render_widget(Paragraph::new(Span::styled(place, style::strong())), top);
    frame.render_widget(Paragraph::new(status).alignment(Alignment::Right), top);
    if area.height < 2 {
        return;
    }
    let tab = |name: &'static str, on: bool| Span::styled(name, if on { style::selected() } else { style::quiet() });
    let on_run = matches!(model.screen, Screen::Run(_));
    let all = [
        ("1 Runs", model.screen == Screen::Runs),
        ("2 Run", on_run),
        ("3 Queue", model.screen == Screen::List(Listing::Queue)),
        ("4 Cache", model.screen == Screen::List(Listing::Cache)),
        ("5 Workers", model.screen == Screen::List(Listing::Workers)),
        ("6 Daemon", model.screen == Screen::List(Listing::Daemon)),
    ];
    let mut tabs = vec![Span::raw(" ")];
    // On a narrow run screen its panes need the room.
    let shown = if on_run && model.narrow() { 2 } else { all.len() };
    for (name, on) in all.into_iter().take(shown) {
        tabs.push(tab(name, on));
        tabs.push(Span::raw("  "));
    }
    if on_run && model.narrow() {
        tabs.push(Span::raw("  "));
        for (name, pane) in [("Tree", Pane::Tree), ("Inspector", Pane::Inspector), ("Log", Pane::Log)] {
            let name = if model.pane == pane { format!("[{name}]") } else { name.to_owned() };
            tabs.push(Span::styled(name, if model.pane == pane { style::strong() } else { style::quiet() }));
            tabs.push(Span::raw(" "));
        }
    }
    frame.render_widget(Paragraph::new(Line::from(tabs)), Rect { y: area.y + 1, height: 1, ..area });
}

/// How the daemon is, in as many words as there is room for.
fn status(model: &Model, room: usize) -> String {
    let link = match &model.link {
        Link::Connecting => "connecting…".to_owned(),
        Link::Connected if model.ascii => "connected".to_owned(),
        Link::Connected => "✓ connected".to_owned(),
        Link::Lost(since, _) => {
            let gone = length_in_words((model.now - since).max(0).cast_unsigned() / 1000 * 1000);
            format!("{} disconnected {gone}, retrying", if model.ascii { "x" } else { "✗" })
        }
        Link::Wrong(why) => clean(why),
    };
    let Some(stats) = model.stats.as_ref().filter(|_| model.link == Link::Connected) else {
        return format!("{} ", shorten(&link, room));
    };
    let [running, queued, linked] = if model.ascii { [">", ".", "&"] } else { ["▸", "∘", "↪"] };
    let calls = stats.borrowed + stats.executed;
    let hit = (stats.borrowed * 100).checked_div(calls).map_or_else(String::new, |percent| format!("  hit {percent}%"));
    let saved = length_in_words(stats.saved);
    let long = format!(
        "{running}{} running  {queued}{} queued  {linked}{} linked to {}{hit}  saved {saved}  {link} ",
        stats.running, stats.queued, stats.linked, stats.leaders
    );
    let short = format!("{running}{} {queued}{} {linked}{}  {link} ", stats.running, stats.queued, stats.linked);
    if long.width() <= room {
        long
    } else if short.width() <= room {
        short
    } else {
        shorten(&link, room)
    }
}

/// The two lines at the bottom: what happened, and what the keys do.
pub fn footer(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let said = if model.typing {
        format!(" /{}▏", clean(&model.filter))
    } else if !model.filter.is_empty() {
        format!(" filter: {}   esc clears it   {}", clean(&model.filter), clean(&model.status))
    } else {
        format!(" {}", clean(&model.status))
    };
    frame.render_widget(Paragraph::new(said), Rect { height: 1.min(area.height), ..area });
    if area.height < 2 {
        return;
    }
    let on_run = matches!(model.screen, Screen::Run(_));
    // However narrow it is, it says how to find the rest and how to leave.
    let always = if model.screen == Screen::Runs { "? keys  q quit" } else { "? keys  q back" };
    let mut keys = String::from(" ");
    for entry in actions::ALL.iter().filter(|entry| !matches!(entry.bar, "keys" | "quit")) {
        let here = match entry.place {
            Place::Everywhere => true,
            Place::Run => on_run,
        };
        let bar = if entry.bar == "next ✗" && model.ascii { "next x" } else { entry.bar };
        if here && !bar.is_empty() {
            let piece = format!("{} {bar}  ", entry.keys[0]);
            if keys.width() + piece.width() + always.width() > usize::from(area.width) {
                break;
            }
            keys.push_str(&piece);
        }
    }
    keys.push_str(always);
    frame.render_widget(Paragraph::new(Span::styled(keys, style::quiet())), Rect { y: area.y + 1, height: 1, ..area });
}
