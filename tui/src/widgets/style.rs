//! Hue says who did the work, shape says where it stands. Only the terminal's own 16 colours, and
//! never a background: light and dark both work.

use ibid::model::State;
use ratatui::style::{Color, Modifier, Style};

/// The style of a state's glyph.
pub fn state(state: State, colour: bool) -> Style {
    let style = Style::default();
    let style = match state {
        State::Failed | State::TimedOut | State::Running | State::Abandoned => style.add_modifier(Modifier::BOLD),
        State::Queued | State::Deferred => style.add_modifier(Modifier::DIM),
        _ => style,
    };
    if !colour {
        return style;
    }
    match state {
        State::Queued => style,
        State::Linked | State::Cached | State::Deferred => style.fg(Color::Magenta),
        State::Running => style.fg(Color::Blue),
        State::Spawned => style.fg(Color::Blue),
        State::Succeeded => style.fg(Color::Green),
        State::Failed | State::TimedOut => style.fg(Color::Red),
        State::Cancelled | State::Abandoned => style.fg(Color::Yellow),
    }
}

/// What is borrowed from another execution.
pub fn borrowed(colour: bool) -> Style {
    if colour { Style::default().fg(Color::Magenta) } else { Style::default() }
}

/// What matters less.
pub fn quiet() -> Style {
    Style::default().add_modifier(Modifier::DIM)
}

/// What matters more.
pub fn strong() -> Style {
    Style::default().add_modifier(Modifier::BOLD)
}

/// The selected row.
pub fn selected() -> Style {
    Style::default().add_modifier(Modifier::REVERSED)
}
