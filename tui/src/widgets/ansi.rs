//! What a program wrote, with its colours, and without anything else that a terminal would obey.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;
use vte::{Params, Parser, Perform};

use crate::output::is_harmless;

/// The pieces of a line in the styles that its SGR sequences ask for. Every other escape sequence and
/// control character is left out; a tab becomes spaces.
pub fn spans(text: &str, base: Style, colour: bool) -> Vec<Span<'static>> {
    let mut writer = Writer { spans: Vec::new(), piece: String::new(), style: base, base, colour, over: false };
    Parser::new().advance(&mut writer, text.as_bytes());
    writer.close();
    writer.spans
}

struct Writer {
    spans: Vec<Span<'static>>,
    piece: String,
    style: Style,
    base: Style,
    colour: bool,
    /// What comes next is written over what is there.
    over: bool,
}

impl Writer {
    fn close(&mut self) {
        if !self.piece.is_empty() || self.spans.is_empty() {
            self.spans.push(Span::styled(std::mem::take(&mut self.piece), self.style));
        }
    }

    fn put(&mut self, text: &str) {
        if std::mem::take(&mut self.over) {
            self.spans.clear();
            self.piece.clear();
        }
        self.piece.push_str(text);
    }

    fn foreground(&self, to: Color) -> Style {
        if self.colour { self.style.fg(to) } else { self.style }
    }
}

impl Perform for Writer {
    fn print(&mut self, c: char) {
        self.put(if is_harmless(c) { c } else { '\u{fffd}' }.encode_utf8(&mut [0; 4]));
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => self.put("    "),
            // A return without a new line is a progress bar's.
            b'\r' => self.over = true,
            _ => self.put("\u{fffd}"),
        }
    }

    fn csi_dispatch(&mut self, parameters: &Params, intermediates: &[u8], _ignore: bool, action: char) {
        if action != 'm' || !intermediates.is_empty() {
            return;
        }
        if !self.piece.is_empty() {
            self.spans.push(Span::styled(std::mem::take(&mut self.piece), self.style));
        }
        // `38;5;n` and `38:5:n` mean the same.
        let mut codes = parameters.iter().flatten().copied();
        while let Some(code) = codes.next() {
            self.style = match code {
                0 => self.base,
                1 => self.style.add_modifier(Modifier::BOLD),
                2 => self.style.add_modifier(Modifier::DIM),
                3 => self.style.add_modifier(Modifier::ITALIC),
                4 => self.style.add_modifier(Modifier::UNDERLINED),
                7 => self.style.add_modifier(Modifier::REVERSED),
                22 => self.style.remove_modifier(Modifier::BOLD | Modifier::DIM),
                23 => self.style.remove_modifier(Modifier::ITALIC),
                24 => self.style.remove_modifier(Modifier::UNDERLINED),
                27 => self.style.remove_modifier(Modifier::REVERSED),
                30..=37 => self.foreground(Color::Indexed(low(code - 30))),
                90..=97 => self.foreground(Color::Indexed(low(code - 82))),
                38 => match (codes.next(), codes.next()) {
                    (Some(5), Some(index)) => self.foreground(Color::Indexed(low(index))),
                    (Some(2), Some(red)) => {
                        let (green, blue) = (codes.next().unwrap_or(0), codes.next().unwrap_or(0));
                        self.foreground(Color::Rgb(low(red), low(green), low(blue)))
                    }
                    _ => self.style,
                },
                39 => Style { fg: self.base.fg, ..self.style },
                // A background is never set here: what is selected must stay to be seen.
                48 => {
                    let more = match codes.next() {
                        Some(5) => 1,
                        Some(2) => 3,
                        _ => 0,
                    };
                    codes.by_ref().take(more).for_each(drop);
                    self.style
                }
                _ => self.style,
            };
        }
    }
}

fn low(number: u16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        spans(text, Style::default(), true).iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn colours_are_kept_and_everything_else_is_left_out() {
        let all = spans("a\u{1b}[1;31mb\u{1b}[0mc", Style::default(), true);
        let styles: Vec<_> = all.iter().map(|span| (span.content.as_ref(), span.style.fg)).collect();
        assert_eq!(styles, [("a", None), ("b", Some(Color::Indexed(1))), ("c", None)]);
        assert_eq!(plain("a\u{1b}[2Jb\u{1b}[10;10Hc"), "abc");
        assert_eq!(plain("a\u{1b}]0;title\u{7}b\u{1b}]52;c;aGk=\u{1b}\\c"), "abc");
        assert_eq!(plain("a\u{1b}Pq\u{1b}\\b\u{1b}cd"), "abd");
        assert_eq!(plain("10%\r20%\r30%"), "30%");
        assert_eq!(plain("a\u{202e}b"), "a\u{fffd}b");
        let quiet = spans("\u{1b}[31mx", Style::default(), false);
        assert_eq!(quiet[0].style.fg, None);
    }

    #[test]
    fn no_bytes_let_an_escape_through() {
        let mut seed = 7_u64;
        let pieces = [
            "\u{1b}", "[", "]", "m", "3", ";", "\u{7}", "\\", "P", "?", "h", "x", "\u{9b}", "\r", "\t", "é",
            "\u{202e}", "38", "48", "\u{0}", "\u{18}",
        ];
        let cases = std::env::var("IBID_ANSI_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000_u64);
        for _ in 0..cases {
            let mut text = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[usize::try_from(seed >> 33).unwrap() % pieces.len()]);
            }
            let shown = plain(&text);
            assert!(shown.chars().all(is_harmless), "{text:?} shows {shown:?}");
        }
    }
}
