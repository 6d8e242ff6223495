//! The log of an execution, of which only the pieces around a line are read.

use ibid::model::{ExecutionId, Id};
use ibid::protocol::{Anchor, GetRows, Head, LogLine, NumberedLine, Refused, Row, Rows, Sought};

use super::{Owner, ROWS_MAX};
use crate::store::{LogChunk, StoreError, View};
use crate::workers::DROPPED;

/// Lines beyond this are left out of a window, farthest first, bytes: a line may be 64 KiB long.
const WINDOW_MAX_BYTES: usize = 2 * 1024 * 1024;

/// What is read of a log: its numbered lines, and how far it reaches.
struct Part {
    first: u64,
    end: u64,
    at: Option<u64>,
    lines: Vec<NumberedLine>,
}

impl Owner {
    pub(super) async fn log_rows(&self, get: &GetRows, id: Id) -> Result<Rows, Refused> {
        let execution = self.doing_the_work(id);
        let wanted = get.clone();
        let part = self.read(move |view| read(view, execution, &wanted)).await?;
        let head = Head::Log { execution, dropped: part.first };
        Ok(Rows {
            total: part.end - part.first,
            all: part.end - part.first,
            first: part.lines.first().map_or(0, |line| line.number - part.first),
            at: part.at.map(|at| at - part.first),
            rows: part.lines.into_iter().map(Row::Line).collect(),
            sorts: Vec::new(),
            head,
        })
    }
}

fn read(view: &View, execution: ExecutionId, get: &GetRows) -> Result<Part, StoreError> {
    let oldest = view.log_piece(execution, 0)?;
    let newest = view.log_pieces(execution, u32::MAX, true).next().transpose()?;
    let (Some(oldest), Some(newest)) = (oldest, newest) else {
        return Ok(Part { first: 0, end: 0, at: None, lines: Vec::new() });
    };
    let (first, end) = (oldest.first, newest.first + count(&newest));
    let within = |line: u64| line.clamp(first, (end - 1).max(first));
    let at = match &get.anchor {
        Anchor::First => Some(first),
        Anchor::Last => Some(within(end.saturating_sub(1))),
        Anchor::At(at) => Some(within(first + at)),
        Anchor::Row { key, at } => Some(within(key.parse().unwrap_or(first + at))),
        Anchor::Next { from, back, what } => {
            let from = from.as_ref().and_then(|key| key.parse::<u64>().ok());
            seek(view, execution, &newest, from, *back, what)?
        }
    };
    let Some(at) = at.filter(|_| end > first) else { return Ok(Part { first, end, at: None, lines: Vec::new() }) };
    let before = get.before.min(ROWS_MAX);
    let after = get.after.min(ROWS_MAX - before);
    let from = at.saturating_sub(u64::from(before)).max(first);
    let to = (at + u64::from(after) + 1).min(end);
    let mut lines = Vec::new();
    for piece in view.log_pieces(execution, piece_with(view, execution, &newest, from)?, false) {
        let piece = piece?;
        if piece.first >= to {
            break;
        }
        lines.extend(numbered(piece).filter(|line| (from..to).contains(&line.number)));
    }
    shrink(&mut lines, at);
    Ok(Part { first, end, at: Some(at), lines })
}

/// How many lines a piece has, without what it says of dropped ones.
fn count(piece: &LogChunk) -> u64 {
    piece.lines.iter().filter(|line| line.level != DROPPED).count() as u64
}

fn numbered(piece: LogChunk) -> impl DoubleEndedIterator<Item = NumberedLine> {
    let execution = piece.execution;
    let lines: Vec<_> = piece.lines.into_iter().filter(|line| line.level != DROPPED).collect();
    let end = piece.first + lines.len() as u64;
    (piece.first..end).collect::<Vec<_>>().into_iter().zip(lines).map(move |(number, line)| NumberedLine {
        number,
        line: LogLine {
            at: line.at,
            level: line.level,
            text: line.text,
            values: line.values,
            execution: Some(execution),
        },
    })
}

/// The number of the piece that has a line, found by halving: pieces are numbered without gaps, but the
/// oldest may be gone.
fn piece_with(view: &View, execution: ExecutionId, newest: &LogChunk, line: u64) -> Result<u32, StoreError> {
    let (mut low, mut high) = (0, newest.number);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match view.log_piece(execution, middle)? {
            Some(piece) if piece.first <= line => low = piece.number,
            _ => high = middle - 1,
        }
    }
    Ok(low)
}

/// The next line after, or before, another that has what is sought.
fn seek(
    view: &View,
    execution: ExecutionId,
    newest: &LogChunk,
    from: Option<u64>,
    back: bool,
    what: &Sought,
) -> Result<Option<u64>, StoreError> {
    let text = match what {
        Sought::Failure => String::new(),
        Sought::Text(text) => text.to_lowercase(),
    };
    let fits = |line: &NumberedLine| match what {
        Sought::Failure => line.line.level == "error",
        Sought::Text(_) => line.line.contains(&text),
    };
    // A piece without the text in it need not be taken apart. Only where it stands there as it was typed can
    // that be seen: not across a name and its value, not in other letters than those of ASCII.
    let seen = match what {
        Sought::Text(_) if text.is_ascii() && !text.contains('=') => text.as_bytes(),
        _ => &[],
    };
    let accept = move |stored: &[u8]| contains(stored, seen);
    if back {
        let from = from.unwrap_or(u64::MAX);
        let start = piece_with(view, execution, newest, from)?;
        for piece in view.log_pieces_with(execution, start.saturating_add(1), true, accept) {
            let found = numbered(piece?).rev().find(|line| line.number < from && fits(line));
            if let Some(line) = found {
                return Ok(Some(line.number));
            }
        }
        return Ok(None);
    }
    let start = from.map_or(Ok(0), |from| piece_with(view, execution, newest, from))?;
    for piece in view.log_pieces_with(execution, start, false, accept) {
        let found = numbered(piece?).find(|line| from.is_none_or(|from| line.number > from) && fits(line));
        if let Some(line) = found {
            return Ok(Some(line.number));
        }
    }
    Ok(None)
}

/// Whether bytes contain a text in small letters, in any case of letters.
fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let Some((first, rest)) = text.split_first() else { return true };
    let fits = |at: usize| bytes.get(at + 1..at + 1 + rest.len()).is_some_and(|found| found.eq_ignore_ascii_case(rest));
    memchr::memchr2_iter(*first, first.to_ascii_uppercase(), bytes).any(fits)
}

/// Leaves out lines at the ends while all together are too long for one message.
fn shrink(lines: &mut Vec<NumberedLine>, at: u64) {
    let weight = |line: &NumberedLine| {
        let values: usize = line.line.values.iter().map(|(name, value)| name.len() + value.as_str().len()).sum();
        line.line.text.len() + values + 64
    };
    let mut bytes: usize = lines.iter().map(weight).sum();
    while bytes > WINDOW_MAX_BYTES && lines.len() > 1 {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return };
        let gone = if at - first.number > last.number - at { lines.remove(0) } else { lines.remove(lines.len() - 1) };
        bytes -= weight(&gone);
    }
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_text_is_found_in_any_case_and_up_to_the_last_byte() {
        assert!(contains(b"a Needle", b"needle") && contains(b"NEEDLE", b"needle") && contains(b"x", b""));
        assert!(!contains(b"a Needl", b"needle") && !contains(b"", b"n"));
    }
}
