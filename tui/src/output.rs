//! What commands print: tables for people, JSON for programs.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use ibid::model::State;
use ibid::protocol::{RunView, length_in_words};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::context::{Failure, Outcome};

/// Writes to standard output. A reader that has gone away ends the command quietly.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure { code: 1, kind: "output".to_owned(), message: format!("cannot write: {error}") }),
    }
}

/// Prints one JSON document.
pub fn json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure {
        code: 1,
        kind: "internal".to_owned(),
        message: format!("no JSON form: {error}"),
    })?;
    print(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Text on one line, without anything that a terminal would obey.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            c if is_harmless(c) => c,
            _ => '\u{fffd}',
        })
        .collect()
}

/// Text on several lines, without anything that a terminal would obey.
pub fn clean_lines(text: &str) -> String {
    text.chars().map(|c| if c == '\n' || c == '\t' || is_harmless(c) { c } else { '\u{fffd}' }).collect()
}

/// Not a control character, nor one that turns the direction of the text.
pub fn is_harmless(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// Whether colours go to standard output.
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A state as a word, in its colour on a terminal.
pub fn state(state: State) -> String {
    let name = state.name();
    if !colours() {
        return name.to_owned();
    }
    let colour = match state {
        State::Succeeded => "32",
        State::Failed | State::TimedOut => "1;31",
        State::Running => "1;34",
        State::Cached | State::Linked | State::Spawned | State::Deferred => "35",
        State::Cancelled => "33",
        State::Abandoned => "1;33",
        State::Queued => "2",
    };
    format!("\u{1b}[{colour}m{name}\u{1b}[0m")
}

/// Columns of equal width, two spaces apart. The last one is not padded.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(visible(cell));
        }
    }
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (index, cell) in cells.enumerate() {
            text.push_str(cell);
            if index + 1 < widths.len() {
                let pad = widths[index].saturating_sub(visible(cell)) + 2;
                text.extend(std::iter::repeat_n(' ', pad));
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut headings.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}

/// Columns that a text takes, colours not counted.
fn visible(text: &str) -> usize {
    let mut width = 0;
    let mut rest = text;
    while let Some(start) = rest.find('\u{1b}') {
        width += rest[..start].width();
        rest = rest[start..].split_once('m').map_or("", |(_, after)| after);
    }
    width + rest.width()
}

/// How long ago, as people say it.
pub fn ago(then: i64) -> String {
    format!("{} ago", length_in_words((now() - then).max(0).cast_unsigned()))
}

/// The same with one unit only, where there is little room.
pub fn ago_shortly(then: i64, now: i64) -> String {
    let length = length_in_words((now - then).max(0).cast_unsigned());
    let mut words = length.split(' ');
    match (words.next(), words.next()) {
        (Some(number), Some(unit)) => format!("{number} {unit} ago"),
        _ => format!("{length} ago"),
    }
}

/// The clock, ms since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The user's own zone; in tests always the same.
fn zone() -> jiff::tz::TimeZone {
    if cfg!(test) { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() }
}

/// A moment in the user's own zone.
pub fn moment(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map(|at| at.to_zoned(zone()).strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_else(|_| at.to_string())
}

/// A time of day in the user's own zone, with milliseconds.
pub fn clock(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map(|at| at.to_zoned(zone()).strftime("%H:%M:%S%.3f").to_string())
        .unwrap_or_else(|_| at.to_string())
}

/// How a run's steps came out, in words.
pub fn counts_in_words(run: &RunView) -> String {
    let counts = &run.counts;
    let mut parts = Vec::new();
    let mut add = |count: u32, word: &str| {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    };
    add(counts.ran, "ran");
    add(counts.cached - counts.joined.min(counts.cached), "hit");
    add(counts.joined + counts.linked, "linked");
    add(counts.running, "running");
    add(counts.spawned, "spawned");
    add(counts.queued, "queued");
    add(counts.deferred, "deferred");
    add(counts.memo, "by memo");
    add(counts.failed, "failed");
    add(counts.cancelled, "cancelled");
    if counts.saved > 0 {
        parts.push(format!("saved {}", length_in_words(counts.saved)));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_tricks_of_direction_do_not_reach_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc\u{202e}d"), "a\u{fffd}[31mb c\u{fffd}d");
        assert_eq!(clean_lines("a\nb\u{7}"), "a\nb\u{fffd}");
    }

    #[test]
    fn tables_are_aligned_by_what_is_seen() {
        let rows =
            vec![vec!["a".to_owned(), "x".to_owned()], vec!["\u{1b}[1mbbb\u{1b}[0m".to_owned(), "日本".to_owned()]];
        let text = table(&["n", "v"], &rows);
        assert_eq!(text, "n    v\na    x\n\u{1b}[1mbbb\u{1b}[0m  日本\n");
    }
}
