//! What a command writes, on its way to being a value.
//!
//! A recording is the text of the value, growing: one line for each piece of
//! output, so that whoever follows reads lines as they come, and the end of the
//! command closes it. Both streams are kept exactly, in the order in which they
//! were read.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ibid::model::{BLOB_MIN_BYTES, Json, Word};

use super::{Exit, Stream};
use crate::store::{BlobRecord, Blobs, NotTaken};

/// What a command's value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Both streams and the exit code: what `exec` replays.
    Command,
    /// Standard output as a string, or as bytes where it is not UTF-8: what a shell task returns.
    Text,
}

/// A finished recording.
#[derive(Debug)]
pub enum Recorded {
    /// Short enough for a message.
    Small(Json),
    /// A file of its own by now.
    Large([u8; 32], BlobRecord),
    /// Nobody's result; those who watch read it where it is.
    Unkept,
}

/// A recording that grows.
#[derive(Debug)]
pub struct Recording {
    file: File,
    path: PathBuf,
    form: Form,
    first: bool,
    /// The start of a character whose end has not been read yet, by stream.
    rest: [Vec<u8>; 2],
}

impl Recording {
    /// Begins one, or goes on with the empty file that followers have opened already.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn begin(path: &Path, form: Form) -> std::io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        if form == Form::Command {
            file.write_all(b"{\"$type\":\"command\",\"output\":[\n")?;
        }
        Ok(Self { file, path: path.to_owned(), form, first: true, rest: [Vec::new(), Vec::new()] })
    }

    /// Adds what was read from a stream.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn output(&mut self, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        match (self.form, stream) {
            (Form::Text, Stream::Out) => self.file.write_all(bytes),
            (Form::Text, Stream::Err) => Ok(()),
            (Form::Command, stream) => {
                let rest = &mut self.rest[stream as usize];
                let mut piece = std::mem::take(rest);
                piece.extend_from_slice(bytes);
                if let Err(error) = std::str::from_utf8(&piece)
                    && error.error_len().is_none()
                {
                    *rest = piece.split_off(error.valid_up_to());
                }
                self.piece(stream, piece)
            }
        }
    }

    fn piece(&mut self, stream: Stream, bytes: Vec<u8>) -> std::io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let name = match stream {
            Stream::Out => "stdout",
            Stream::Err => "stderr",
        };
        let mut line = if self.first { Vec::new() } else { vec![b','] };
        self.first = false;
        serde_json::to_writer(&mut line, &(name, Word(bytes)))?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// Closes it with how the command ended.
    ///
    /// # Errors
    /// Where it cannot be written or kept.
    pub fn finish(mut self, exit: Exit, is_result: bool, blobs: &Blobs) -> Result<Recorded, NotTaken> {
        match self.form {
            Form::Text if !is_result => {}
            Form::Command => {
                for stream in [Stream::Out, Stream::Err] {
                    let rest = std::mem::take(&mut self.rest[stream as usize]);
                    self.piece(stream, rest)?;
                }
                let end = match exit {
                    Exit::Code(code) => format!("],\"exit_code\":{code}}}"),
                    Exit::Signal(signal) => format!("],\"signal\":{signal}}}"),
                    Exit::Unknown => "],\"exit_code\":255}".to_owned(),
                };
                self.file.write_all(end.as_bytes())?;
            }
            Form::Text => self.quote()?,
        }
        if !is_result {
            return Ok(Recorded::Unkept);
        }
        if self.file.metadata()?.len() < BLOB_MIN_BYTES {
            let text = std::fs::read_to_string(&self.path)?;
            let json = Json::parse(text).map_err(|error| NotTaken::NotAValue(error.to_string()))?;
            return Ok(Recorded::Small(json));
        }
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (hash, record) = blobs.take(name)?;
        Ok(Recorded::Large(hash, record))
    }

    /// Makes the bytes in the file a JSON text, in bounded memory.
    fn quote(&mut self) -> std::io::Result<()> {
        self.file.rewind()?;
        let quoted_path = self.path.with_extension("quoted");
        let quoted = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&quoted_path)?;
        let mut out = BufWriter::with_capacity(256 * 1024, &quoted);
        if is_utf8(&self.file)? {
            self.file.rewind()?;
            out.write_all(b"\"")?;
            for_each_text(&self.file, |text| {
                let string = serde_json::to_string(text)?;
                out.write_all(&string.as_bytes()[1..string.len() - 1])
            })?;
            out.write_all(b"\"")?;
        } else {
            self.file.rewind()?;
            out.write_all(b"{\"$type\":\"bytes\",\"base64\":\"")?;
            let mut encoder = base64::write::EncoderWriter::new(&mut out, &base64::engine::general_purpose::STANDARD);
            std::io::copy(&mut BufReader::new(&self.file), &mut encoder)?;
            encoder.finish()?;
            drop(encoder);
            out.write_all(b"\"}")?;
        }
        out.flush()?;
        drop(out);
        std::fs::rename(&quoted_path, &self.path)?;
        self.file = quoted;
        Ok(())
    }
}

fn is_utf8(file: &File) -> std::io::Result<bool> {
    match for_each_text(file, |_| Ok(())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a file as text, piece by piece.
fn for_each_text(mut file: &File, mut each: impl FnMut(&str) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut held = 0;
    loop {
        let read = file.read(&mut buffer[held..])?;
        let end = held + read;
        let valid = match std::str::from_utf8(&buffer[..end]) {
            Ok(text) => {
                each(text)?;
                end
            }
            // The end of a character is still to come.
            Err(error) if error.error_len().is_none() && read > 0 => {
                let valid = error.valid_up_to();
                each(std::str::from_utf8(&buffer[..valid]).unwrap_or_default())?;
                valid
            }
            Err(_) => return Err(std::io::ErrorKind::InvalidData.into()),
        };
        buffer.copy_within(valid..end, 0);
        held = end - valid;
        if read == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(form: Form, pieces: &[(Stream, &[u8])], exit: Exit) -> String {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let path = blobs.spool().join("value-test");
        let mut recording = Recording::begin(&path, form).unwrap();
        for (stream, bytes) in pieces {
            recording.output(*stream, bytes).unwrap();
        }
        match recording.finish(exit, true, &blobs).unwrap() {
            Recorded::Small(json) => json.as_str().to_owned(),
            Recorded::Unkept => panic!("it is a result"),
            Recorded::Large(hash, record) => {
                let text = std::fs::read_to_string(blobs.path(&hash)).unwrap();
                assert_eq!(record.size, text.len() as u64);
                text
            }
        }
    }

    #[test]
    fn a_command_is_its_output_in_order_and_its_exit_code() {
        let text = record(
            Form::Command,
            &[(Stream::Out, b"out\n"), (Stream::Err, b"err"), (Stream::Out, b"\xff")],
            Exit::Code(3),
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["output"][0], serde_json::json!(["stdout", "out\n"]));
        assert_eq!(value["output"][1], serde_json::json!(["stderr", "err"]));
        assert_eq!(value["output"][2][1]["base64"], "/w==");
        assert_eq!(value["exit_code"], 3);
        let text = record(Form::Command, &[], Exit::Signal(9));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["signal"], 9);
    }

    #[test]
    fn a_character_that_was_read_in_two_halves_is_one() {
        let letter = "\u{1f600}".as_bytes();
        let text = record(Form::Command, &[(Stream::Out, &letter[..2]), (Stream::Out, &letter[2..])], Exit::Code(0));
        assert!(text.contains('\u{1f600}'), "{text}");
        let text = record(Form::Command, &[(Stream::Out, &letter[..2])], Exit::Code(0));
        assert!(text.contains("8J8="), "{text}");
    }

    #[test]
    fn a_task_returns_text_or_bytes_of_any_size() {
        assert_eq!(record(Form::Text, &[(Stream::Out, b"a\"\n"), (Stream::Err, b"no")], Exit::Code(0)), r#""a\"\n""#);
        let long = "\u{e4}\u{1f600}x".repeat(100_000);
        let text = record(Form::Text, &[(Stream::Out, long.as_bytes())], Exit::Code(0));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), long);
        let text = record(Form::Text, &[(Stream::Out, b"\xff\xfe")], Exit::Code(0));
        assert_eq!(text, r#"{"$type":"bytes","base64":"//4="}"#);
    }
}
