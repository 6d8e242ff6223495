//! What executions write, in pieces on their way to the store.
//!
//! Of each execution the newest is kept, up to a limit; what does not fit is
//! dropped, oldest first, and counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ibid::model::{ExecutionId, Timestamp};

use super::Stream;
use crate::store::{LogChunk, LogLine};

/// How much of an execution's log is kept unless something else is configured, bytes of text.
pub const LOG_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// A full log consists of at least so many pieces: little more than one of them is missing from the limit.
const PIECES: usize = 16;

/// A line longer than this is cut into several, bytes.
const LINE_BYTES: usize = 64 * 1024;

/// The level of the line that says how many were dropped before it.
pub const DROPPED: &str = "dropped";

/// The logs of running executions.
#[derive(Debug)]
pub struct LogBook {
    limit: usize,
    open: BTreeMap<ExecutionId, Log>,
    touched: BTreeSet<ExecutionId>,
}

#[derive(Debug, Default)]
struct Log {
    limit: usize,
    next: u32,
    /// Lines in pieces so far, dropped ones included.
    counted: u64,
    partial: [Vec<u8>; 2],
    pending: VecDeque<LogLine>,
    pending_bytes: usize,
    dropped: u64,
    dropped_told: u64,
    /// Pieces in the store: number, lines, bytes.
    kept: VecDeque<(u32, u64, usize)>,
    kept_bytes: usize,
}

impl LogBook {
    /// Keeps so many bytes of text of each execution.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(LINE_BYTES), open: BTreeMap::new(), touched: BTreeSet::new() }
    }

    fn log(&mut self, execution: ExecutionId) -> &mut Log {
        self.touched.insert(execution);
        let limit = self.limit;
        self.open.entry(execution).or_insert_with(|| Log { limit, ..Log::default() })
    }

    /// Adds raw output.
    pub fn output(&mut self, execution: ExecutionId, stream: Stream, now: Timestamp, bytes: &[u8]) {
        let log = self.log(execution);
        let (level, index) = match stream {
            Stream::Out => ("stdout", 0),
            Stream::Err => ("stderr", 1),
        };
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut log.partial[index]);
            line.extend_from_slice(&rest[..end]);
            log.push(level, now, &line);
            rest = &rest[end + 1..];
        }
        log.partial[index].extend_from_slice(rest);
        while log.partial[index].len() > LINE_BYTES {
            let line: Vec<u8> = log.partial[index].drain(..LINE_BYTES).collect();
            log.push(level, now, &line);
        }
    }

    /// Adds a message.
    pub fn message(&mut self, execution: ExecutionId, line: LogLine) {
        let log = self.log(execution);
        log.add(line);
    }

    /// The execution has ended: lines without an end are lines too. Returns what is left to write.
    pub fn finish(&mut self, execution: ExecutionId, now: Timestamp) -> Vec<LogChunk> {
        let Some(mut log) = self.open.remove(&execution) else { return Vec::new() };
        for (index, level) in [(0, "stdout"), (1, "stderr")] {
            let rest = std::mem::take(&mut log.partial[index]);
            if !rest.is_empty() {
                log.push(level, now, &rest);
            }
        }
        self.touched.remove(&execution);
        let mut chunks = Vec::new();
        log.flush(execution, &mut chunks);
        chunks
    }

    /// Whether anything waits to be written.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Takes what waits, as pieces to write and pieces to remove.
    pub fn take(&mut self) -> Vec<LogChunk> {
        let mut chunks = Vec::new();
        for execution in std::mem::take(&mut self.touched) {
            if let Some(log) = self.open.get_mut(&execution) {
                log.flush(execution, &mut chunks);
            }
        }
        chunks
    }
}

impl Log {
    fn push(&mut self, level: &str, at: Timestamp, bytes: &[u8]) {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        for piece in bytes.chunks(LINE_BYTES).chain(bytes.is_empty().then_some(&[][..])) {
            let text = String::from_utf8_lossy(piece).into_owned();
            self.add(LogLine { at, level: level.to_owned(), text, values: Vec::new() });
        }
    }

    fn add(&mut self, line: LogLine) {
        self.pending_bytes += weight(&line);
        self.pending.push_back(line);
        while self.pending_bytes > self.limit {
            let Some(oldest) = self.pending.pop_front() else { break };
            self.pending_bytes -= weight(&oldest);
            self.dropped += 1;
            self.counted += 1;
        }
    }

    /// Makes pieces of what is pending. Whole pieces are dropped later, so each is a small part of the limit.
    fn flush(&mut self, execution: ExecutionId, chunks: &mut Vec<LogChunk>) {
        self.pending_bytes = 0;
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while let Some(line) = self.pending.pop_front() {
            bytes += weight(&line);
            lines.push(line);
            if bytes >= self.limit / PIECES || self.pending.is_empty() {
                self.keep(execution, std::mem::take(&mut lines), std::mem::take(&mut bytes), chunks);
            }
        }
    }

    fn keep(&mut self, execution: ExecutionId, mut lines: Vec<LogLine>, bytes: usize, chunks: &mut Vec<LogChunk>) {
        let count = lines.len() as u64;
        while self.kept_bytes + bytes > self.limit
            && let Some((number, lines, bytes)) = self.kept.pop_front()
        {
            self.kept_bytes -= bytes;
            self.dropped += lines;
            chunks.push(LogChunk { execution, number, first: 0, lines: Vec::new() });
        }
        if self.dropped != self.dropped_told
            && let Some(first) = lines.first()
        {
            self.dropped_told = self.dropped;
            let told =
                LogLine { at: first.at, level: DROPPED.to_owned(), text: self.dropped.to_string(), values: Vec::new() };
            lines.insert(0, told);
        }
        chunks.push(LogChunk { execution, number: self.next, first: self.counted, lines });
        self.counted += count;
        self.kept.push_back((self.next, count, bytes));
        self.kept_bytes += bytes;
        self.next += 1;
    }
}

fn weight(line: &LogLine) -> usize {
    let values: usize = line.values.iter().map(|(name, value)| name.len() + value.as_str().len()).sum();
    line.text.len() + values + 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibid::model::{RunId, StepId};

    fn execution() -> ExecutionId {
        StepId { run: RunId(1), step: 1 }.attempt(1)
    }

    fn texts(chunks: &[LogChunk]) -> Vec<String> {
        chunks.iter().flat_map(|chunk| chunk.lines.iter().map(|line| line.text.clone())).collect()
    }

    #[test]
    fn output_becomes_lines_whatever_pieces_it_comes_in() {
        let mut book = LogBook::new(LOG_LIMIT_BYTES);
        for piece in ["on", "e\ntw", "o\r\n", "\nlast"] {
            book.output(execution(), Stream::Out, 1, piece.as_bytes());
        }
        assert_eq!(texts(&book.take()), ["one", "two", ""]);
        assert_eq!(texts(&book.finish(execution(), 2)), ["last"]);
    }

    #[test]
    fn a_flood_keeps_its_newest_lines_and_says_how_many_are_gone() {
        let mut book = LogBook::new(LOG_LIMIT_BYTES);
        let mut kept: BTreeMap<u32, Vec<LogLine>> = BTreeMap::new();
        let total = 200_000_u64;
        for number in 0..total {
            book.output(execution(), Stream::Out, 1, format!("{number:060}\n").as_bytes());
            if number % 10_000 == 9_999 {
                for chunk in book.take() {
                    if chunk.lines.is_empty() {
                        kept.remove(&chunk.number);
                    } else {
                        kept.insert(chunk.number, chunk.lines);
                    }
                }
            }
        }
        let lines: Vec<_> = kept.values().flatten().collect();
        let shown: Vec<_> = lines.iter().filter(|line| line.level != DROPPED).collect();
        let dropped: u64 = lines.iter().rev().find(|line| line.level == DROPPED).unwrap().text.parse().unwrap();
        assert_eq!(dropped + shown.len() as u64, total);
        assert_eq!(shown.last().unwrap().text, format!("{:060}", total - 1));
        let bytes: usize = shown.iter().map(|line| weight(line)).sum();
        assert!(bytes <= LOG_LIMIT_BYTES, "{bytes}");
        assert!(bytes >= LOG_LIMIT_BYTES / 8 * 7, "{bytes}: more was dropped than the limit asks for");
    }

    #[test]
    fn a_full_log_is_not_dropped_for_a_line_more() {
        let mut book = LogBook::new(LOG_LIMIT_BYTES);
        let line = format!("{}\n", "x".repeat(99));
        for _ in 0..50_000 {
            book.output(execution(), Stream::Out, 1, line.as_bytes());
        }
        let first = book.take().len();
        book.output(execution(), Stream::Out, 1, line.as_bytes());
        let removed = book.finish(execution(), 1).iter().filter(|chunk| chunk.lines.is_empty()).count();
        assert!(first >= PIECES && removed <= 1, "{removed} of {first} pieces were dropped for one line");
    }

    #[test]
    fn a_line_without_end_is_cut_not_kept_whole() {
        let mut book = LogBook::new(LOG_LIMIT_BYTES);
        for _ in 0..100 {
            book.output(execution(), Stream::Out, 1, &[b'x'; 10_000]);
        }
        assert!(texts(&book.finish(execution(), 1)).iter().all(|text| text.len() <= LINE_BYTES));
    }
}
