//! What surrounds every screen: where you are, how the daemon is, what the keys do.

use ratatui::Frame;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Borders, Paragraph};

use ibid::protocol::length_in_words;
use unicode_width::UnicodeWidthStr as _;

use super::style;
use crate::app::actions::{self, Action, Place};
use crate::app::model::{Link, Model, Pane, Screen, Tab};
use crate::app::steps::shorten;
use crate::app::window::Window;
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

/// The box of a list, with how it is sorted.
pub fn list_block(title: &str, window: &Window, model: &Model, active: bool) -> Block<'static> {
    let block = block(title, model.ascii, active);
    let mut right = Vec::new();
    if window.paused {
        right.push(format!("paused, {} behind", window.behind));
    }
    let sort = window.sort.as_ref().filter(|sort| window.sorts.first() != Some(sort) || window.reverse);
    match (sort, window.reverse) {
        (Some(sort), true) => right.push(format!("sort: {sort}, inverse")),
        (Some(sort), false) => right.push(format!("sort: {sort}")),
        (None, true) => right.push("inverse".to_owned()),
        (None, false) => {}
    }
    if right.is_empty() {
        return block;
    }
    block.title_top(Line::from(format!(" {} ", right.join(" · "))).right_aligned())
}

/// What stands before a row: whether it is selected, whether it is marked.
pub const fn mark(selected: bool, marked: bool) -> &'static str {
    match (selected, marked) {
        (true, true) => ">*",
        (true, false) => "> ",
        (false, true) => " *",
        (false, false) => "  ",
    }
}

/// The two lines at the top.
pub fn header(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let between = if model.ascii { " > " } else { " › " };
    let mut place = match &model.screen {
        Screen::Runs | Screen::Run(_) => " ibid  Runs".to_owned(),
        Screen::Queue => " ibid  Queue".to_owned(),
        Screen::Namespaces => " ibid  Cache".to_owned(),
        Screen::Keys(namespace) => format!(" ibid  Cache{between}{}", shorten(&clean(namespace), 30)),
        Screen::Key(key) => format!(" ibid  Cache{between}{}", shorten(&clean(key), 12)),
        Screen::Workers => " ibid  Workers".to_owned(),
        Screen::Daemon => " ibid  Daemon".to_owned(),
    };
    if let Screen::Run(run) = model.screen {
        place.push_str(&format!("{between}{run}"));
        match (model.selected_group(), model.selected_step()) {
            (Some(group), _) => place.push_str(&format!("{between}{}", clean(&group.name))),
            (None, Some(step)) => place.push_str(&format!("{between}{}", step.id)),
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
    let on_cache = matches!(model.screen, Screen::Namespaces | Screen::Keys(_) | Screen::Key(_));
    let all = [
        ("1 Runs", model.screen == Screen::Runs),
        ("2 Run", model.on_run()),
        ("3 Queue", model.screen == Screen::Queue),
        ("4 Cache", on_cache),
        ("5 Workers", model.screen == Screen::Workers),
        ("6 Daemon", model.screen == Screen::Daemon),
    ];
    let mut tabs = vec![Span::raw(" ")];
    // On a narrow run screen its panes and tabs need the room.
    let shown = if model.on_run() && model.one_pane() { 2 } else { all.len() };
    let on_style = |on: bool| if on { style::selected() } else { style::quiet() };
    for (name, on) in all.into_iter().take(shown) {
        tabs.push(Span::styled(name, on_style(on)));
        tabs.push(Span::raw("  "));
    }
    let line = Rect { y: area.y + 1, height: 1, ..area };
    frame.render_widget(Paragraph::new(Line::from(tabs)), line);
    if model.on_run() {
        frame.render_widget(Paragraph::new(run_tabs(model)).alignment(Alignment::Right), line);
    }
}

/// The tabs of a run; in front of them its panes where they are shown one at a time.
fn run_tabs(model: &Model) -> Line<'static> {
    let mut tabs: Vec<Span<'static>> = Vec::new();
    let mut add = |name: &str, on: bool| {
        let name = if on { format!("[{name}]") } else { format!(" {name} ") };
        tabs.push(Span::styled(name, if on { style::strong() } else { style::quiet() }));
    };
    if model.one_pane() {
        for (name, pane) in [("Tree", Pane::Tree), ("Step", Pane::Inspector), ("Log", Pane::Log)] {
            add(name, model.tab == Tab::Tree && model.pane == pane);
        }
    } else {
        add("Tree", model.tab == Tab::Tree);
        add("Log", model.tab == Tab::Log);
    }
    add("Key", model.tab == Tab::Key);
    add("Graph", model.tab == Tab::Graph);
    Line::from(tabs)
}

/// How the daemon is, in as many words as there is room for.
fn status(model: &Model, room: usize) -> String {
    let link = match &model.link {
        Link::Connecting => "connecting…".to_owned(),
        Link::Connected if model.ascii => "connected".to_owned(),
        Link::Connected => "✓ connected".to_owned(),
        Link::Lost(since, _) => {
            let gone = length_in_words((model.clock - since).max(0).cast_unsigned() / 1000 * 1000);
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
    let cursor = if model.ascii { "_" } else { "▏" };
    let said = if model.typing && model.searches_log() {
        format!(" search: {}{cursor}   enter finds it, n and N the others", clean(&model.log_search))
    } else if model.typing {
        format!(" /{}{cursor}   {}", clean(&model.main.filter), clean(&model.main.wrong))
    } else if !model.main.filter.is_empty() {
        format!(" filter: {}   esc clears it   {}", clean(&model.main.filter), clean(&model.status))
    } else {
        format!(" {}", clean(&model.status))
    };
    frame.render_widget(Paragraph::new(said), Rect { height: 1.min(area.height), ..area });
    if area.height < 2 {
        return;
    }
    let width = usize::from(area.width);
    let line = Rect { y: area.y + 1, height: 1, ..area };
    if !model.chord.is_empty() {
        frame.render_widget(Paragraph::new(Span::styled(chord(model, width), style::strong())), line);
        return;
    }
    // However narrow it is, it says how to find the rest and how to leave.
    let first = |action| model.keymap.of(action).first().map_or("", String::as_str);
    let leave = if model.screen == Screen::Runs { "quit" } else { "back" };
    let always =
        format!("{} keys  {} palette  {} {leave}", first(Action::Help), first(Action::Palette), first(Action::Back));
    let mut keys = String::from(" ");
    let in_bar = |entry: &&actions::Entry| !entry.bar.is_empty() && !matches!(entry.bar, "keys" | "quit");
    // Where the keys are in a log, they are the log's.
    let in_log = model.searches_log();
    let fits = |entry: &&actions::Entry| match entry.place {
        Place::Everywhere => true,
        Place::Log => in_log,
        _ => !in_log && model.is_possible(entry),
    };
    let mut shown: Vec<&actions::Entry> = actions::ALL.iter().filter(in_bar).filter(fits).collect();
    shown.sort_by_key(|entry| entry.place != Place::Log);
    for entry in shown {
        let bar = if entry.bar == "next ✗" && model.ascii { "next x" } else { entry.bar };
        let Some(key) = model.keymap.of(entry.action).first() else { continue };
        let piece = format!("{key} {bar}  ");
        if keys.width() + piece.width() + always.width() > width {
            break;
        }
        keys.push_str(&piece);
    }
    keys.push_str(&always);
    frame.render_widget(Paragraph::new(Span::styled(keys, style::quiet())), line);
}

/// What the keys do that can follow those typed so far.
fn chord(model: &Model, width: usize) -> String {
    let mut text = format!(" {}", model.chord);
    for entry in actions::ALL.iter().filter(|entry| model.is_possible(entry)) {
        let follows = model.keymap.of(entry.action).iter().find_map(|key| key.strip_prefix(model.chord.as_str()));
        if let Some(next) = follows.filter(|next| !next.is_empty() && !model.chord.starts_with('^')) {
            let words = entry.words.split([':', ',']).next().unwrap_or_default();
            let words = if entry.bar.is_empty() { words } else { entry.bar };
            text.push_str(&format!("  {next} {words}"));
        }
    }
    shorten(&text, width)
}
