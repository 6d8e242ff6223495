//! Hue says who did the work, shape says where it stands. By default only the terminal's own 16 colours,
//! and never a background: light and dark both work.

use ibid::model::State;
use ratatui::style::{Color, Modifier, Style};

/// Which colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colours {
    /// None: glyph, word, bold and reverse tell everything.
    None,
    /// The terminal's own 16.
    #[default]
    Terminal,
    /// For a dark background, whatever the terminal's own are.
    Dark,
    /// For a light one.
    Light,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hue {
    Own,
    Done,
    Borrowed,
    Bad,
    Doubtful,
}

impl Colours {
    const fn of(self, hue: Hue) -> Option<Color> {
        Some(match (self, hue) {
            (Self::None, _) => return None,
            (Self::Terminal, Hue::Own) => Color::Blue,
            (Self::Terminal, Hue::Done) => Color::Green,
            (Self::Terminal, Hue::Borrowed) => Color::Magenta,
            (Self::Terminal, Hue::Bad) => Color::Red,
            (Self::Terminal, Hue::Doubtful) => Color::Yellow,
            (Self::Dark, Hue::Own) => Color::Rgb(0x7f, 0xb4, 0xff),
            (Self::Dark, Hue::Done) => Color::Rgb(0x8f, 0xd6, 0x8f),
            (Self::Dark, Hue::Borrowed) => Color::Rgb(0xe0, 0xa0, 0xff),
            (Self::Dark, Hue::Bad) => Color::Rgb(0xff, 0x8a, 0x80),
            (Self::Dark, Hue::Doubtful) => Color::Rgb(0xf0, 0xd0, 0x60),
            (Self::Light, Hue::Own) => Color::Rgb(0x0b, 0x4f, 0xb3),
            (Self::Light, Hue::Done) => Color::Rgb(0x0a, 0x6b, 0x1d),
            (Self::Light, Hue::Borrowed) => Color::Rgb(0x8a, 0x1f, 0xa0),
            (Self::Light, Hue::Bad) => Color::Rgb(0xb3, 0x13, 0x0b),
            (Self::Light, Hue::Doubtful) => Color::Rgb(0x7a, 0x5a, 0x00),
        })
    }

    const fn paint(self, style: Style, hue: Hue) -> Style {
        match self.of(hue) {
            Some(colour) => style.fg(colour),
            None => style,
        }
    }
}

/// The style of a state's glyph.
pub fn state(state: State, colours: Colours) -> Style {
    let style = Style::default();
    let style = match state {
        State::Failed | State::TimedOut | State::Running | State::Abandoned => style.add_modifier(Modifier::BOLD),
        State::Queued | State::Deferred => style.add_modifier(Modifier::DIM),
        _ => style,
    };
    match state {
        State::Queued => style,
        State::Linked | State::Cached | State::Deferred => colours.paint(style, Hue::Borrowed),
        State::Running | State::Spawned => colours.paint(style, Hue::Own),
        State::Succeeded => colours.paint(style, Hue::Done),
        State::Failed | State::TimedOut => colours.paint(style, Hue::Bad),
        State::Cancelled | State::Abandoned => colours.paint(style, Hue::Doubtful),
    }
}

/// What is borrowed from another execution.
pub fn borrowed(colours: Colours) -> Style {
    colours.paint(Style::default(), Hue::Borrowed)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, as WCAG 2 defines it.
    fn luminance([red, green, blue]: [u8; 3]) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn the_bundled_themes_can_be_read_on_their_backgrounds() {
        let dark = [[0, 0, 0], [0x1e, 0x1e, 0x2e], [0x28, 0x2c, 0x34]];
        let light = [[0xff, 0xff, 0xff], [0xfd, 0xf6, 0xe3], [0xef, 0xef, 0xef]];
        for (theme, backgrounds) in [(Colours::Dark, dark), (Colours::Light, light)] {
            for hue in [Hue::Own, Hue::Done, Hue::Borrowed, Hue::Bad, Hue::Doubtful] {
                let Some(Color::Rgb(red, green, blue)) = theme.of(hue) else { panic!("{theme:?} {hue:?}") };
                for background in backgrounds {
                    let found = contrast([red, green, blue], background);
                    assert!(found >= 4.5, "{theme:?} {hue:?} on {background:?}: {found:.2}");
                }
            }
        }
    }

    #[test]
    fn without_colour_no_state_has_one() {
        assert!(State::ALL.iter().all(|known| state(*known, Colours::None).fg.is_none()));
    }
}
