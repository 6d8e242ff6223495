//! Reading what a command has written: a file that grows, or a finished value.

use std::io::{BufRead as _, BufReader, Read};

use serde::Deserialize;

use crate::model::{BlobReference, Json, Word};

/// Where a command wrote something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandEnd {
    /// With a code.
    ExitCode(i32),
    /// By a signal.
    Signal(i32),
}

impl CommandEnd {
    /// The exit code that a shell reports: of a signal 128 and its number.
    #[must_use]
    pub fn code(self) -> u8 {
        let (Self::ExitCode(code) | Self::Signal(code)) = self;
        let code = if matches!(self, Self::Signal(_)) { code + 128 } else { code };
        u8::try_from(code & 0xff).unwrap_or(u8::MAX)
    }
}

/// What reading comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Bytes of a stream.
    Piece(CommandStream, Vec<u8>),
    /// The end.
    End(CommandEnd),
}

/// Reads a recording as it grows, line by line.
#[derive(Debug, Default)]
pub struct RecordingReader {
    line: Vec<u8>,
}

impl RecordingReader {
    /// Takes what the source has now, and hands on what is whole.
    ///
    /// # Errors
    /// Where the source cannot be read or is no recording.
    pub fn read(
        &mut self,
        source: &mut impl Read,
        mut each: impl FnMut(Recorded) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut source = BufReader::with_capacity(128 * 1024, source);
        loop {
            let read = source.read_until(b'\n', &mut self.line)?;
            let whole = self.line.last() == Some(&b'\n') || self.is_end();
            if whole {
                if let Some(recorded) = parse(self.line.trim_ascii())? {
                    each(recorded)?;
                }
                self.line.clear();
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    /// The last line ends with the text.
    fn is_end(&self) -> bool {
        self.line.first() == Some(&b']') && self.line.last() == Some(&b'}')
    }
}

fn parse(line: &[u8]) -> std::io::Result<Option<Recorded>> {
    match line.first() {
        Some(b'[') => piece(line).map(Some),
        Some(b',') => piece(&line[1..]).map(Some),
        Some(b']') => {
            let end = line.strip_prefix(b"],").ok_or(std::io::ErrorKind::InvalidData)?;
            let end = serde_json::from_slice(&[b"{", end].concat())?;
            Ok(Some(Recorded::End(end)))
        }
        _ => Ok(None),
    }
}

fn piece(line: &[u8]) -> std::io::Result<Recorded> {
    let (stream, Word(bytes)) = serde_json::from_slice(line)?;
    Ok(Recorded::Piece(stream, bytes))
}

/// Reads the value of a finished command.
///
/// # Errors
/// Where it is none, or its file cannot be read.
pub fn read_command(value: &Json, mut each: impl FnMut(Recorded) -> std::io::Result<()>) -> std::io::Result<()> {
    #[derive(Deserialize)]
    struct Value {
        output: Vec<(CommandStream, Word)>,
        #[serde(flatten)]
        end: CommandEnd,
    }
    if let Some(blob) = BlobReference::read(value) {
        let mut file = std::fs::File::open(blob.path)?;
        return RecordingReader::default().read(&mut file, each);
    }
    let value: Value = value.read()?;
    for (stream, Word(bytes)) in value.output {
        each(Recorded::Piece(stream, bytes))?;
    }
    each(Recorded::End(value.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\"$type\":\"command\",\"output\":[\n[\"stdout\",\"a\\n\"]\n,[\"stderr\",{\"$type\":\"bytes\",\"base64\":\"/w==\"}]\n],\"exit_code\":3}";

    fn expected() -> Vec<Recorded> {
        vec![
            Recorded::Piece(CommandStream::Stdout, b"a\n".to_vec()),
            Recorded::Piece(CommandStream::Stderr, b"\xff".to_vec()),
            Recorded::End(CommandEnd::ExitCode(3)),
        ]
    }

    #[test]
    fn a_recording_reads_the_same_in_any_pieces() {
        for step in 1..TEXT.len() {
            let mut reader = RecordingReader::default();
            let mut found = Vec::new();
            for part in TEXT.as_bytes().chunks(step) {
                let mut part = part;
                reader
                    .read(&mut part, |recorded| {
                        found.push(recorded);
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(found, expected(), "{step}");
        }
    }

    #[test]
    fn a_value_reads_like_its_recording() {
        let mut found = Vec::new();
        read_command(&Json::parse(TEXT).unwrap(), |recorded| {
            found.push(recorded);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, expected());
        assert_eq!(CommandEnd::Signal(9).code(), 137);
        assert_eq!(CommandEnd::ExitCode(256 + 7).code(), 7);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for text in ["3", "{}", r#"{"output":[["stdin","x"]],"exit_code":0}"#] {
            assert!(read_command(&Json::parse(text).unwrap(), |_| Ok(())).is_err(), "{text}");
        }
    }
}
