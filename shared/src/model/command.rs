//! Shell commands: how one is run, and what a project file says of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CallOptions, Parameter};

/// A word of the system's (an argument, a path, a variable): bytes, nearly always UTF-8. In JSON a string,
/// or `{"$type": "bytes", "base64": …}` where it is not, or would be longer with all its escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WordForm<'a> {
    Text(std::borrow::Cow<'a, str>),
    Bytes {
        #[serde(rename = "$type")]
        kind: String,
        base64: String,
    },
}

impl Word {
    /// The text, with marks in place of what is not UTF-8.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// As the system wants it.
    #[must_use]
    pub fn as_os(&self) -> &std::ffi::OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(&self.0)
    }
}

impl From<&std::ffi::OsStr> for Word {
    fn from(text: &std::ffi::OsStr) -> Self {
        Self(std::os::unix::ffi::OsStrExt::as_bytes(text).to_vec())
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        let escapes = self.0.iter().filter(|byte| matches!(byte, 0..=8 | 11 | 12 | 14..=31)).count();
        match std::str::from_utf8(&self.0) {
            Ok(text) if escapes * 15 <= self.0.len() => serializer.serialize_str(text),
            _ => WordForm::Bytes { kind: "bytes".to_owned(), base64: STANDARD.encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Vec::<u8>::deserialize(deserializer).map(Self);
        }
        match WordForm::deserialize(deserializer)? {
            WordForm::Text(text) => Ok(Self(text.into_owned().into_bytes())),
            WordForm::Bytes { kind, base64 } if kind == "bytes" => {
                STANDARD.decode(base64).map(Self).map_err(D::Error::custom)
            }
            WordForm::Bytes { kind, .. } => Err(D::Error::custom(format!("'{kind}' is no type of a word"))),
        }
    }
}

/// What a command reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// Nothing.
    #[default]
    Empty,
    /// What its step has as the argument `stdin`.
    Argument,
    /// What the caller's own standard input gives: a file, opened when the command starts, once.
    File {
        /// Its path.
        path: Word,
        /// Where reading begins, bytes.
        offset: u64,
    },
}

/// How a command is run beside what identifies it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CommandSetting {
    /// All environment variables.
    pub variables: Vec<(Word, Word)>,
    /// The mask of permissions for new files.
    pub umask: u32,
    /// What it reads.
    pub stdin: Stdin,
    /// An end with another code than 0 is a result like any other.
    pub keep_failures: bool,
    /// Patterns of files whose content is part of the key.
    #[serde(default)]
    pub inputs: Vec<String>,
}

/// What a shell task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum CommandLine {
    /// A program and its arguments; `{name}` in one stands for the parameter's value.
    Words(Vec<String>),
    /// A line for `sh -c`; `{name}` stands for the parameter's value, quoted.
    Shell(String),
}

/// A shell task of a project file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShellTask {
    /// Its name; the target is `shell/<name>`.
    pub name: String,
    /// What it runs, as JSON: an array of words or one line for the shell.
    pub run: super::Json,
    /// What it can be called with.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// Where it runs, absolute.
    pub directory: String,
    /// Patterns of files, relative to the directory, whose content is part of the key.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Environment variables whose values are part of the key.
    #[serde(default)]
    pub variables: Vec<String>,
    /// As declared.
    #[serde(default)]
    pub options: CallOptions,
    /// One sentence.
    #[serde(default)]
    pub doc: Option<String>,
}

/// The shell tasks of an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Shell {
    /// By name.
    pub tasks: Vec<RegisteredTask>,
}

/// A shell task with where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisteredTask {
    /// The task.
    pub task: ShellTask,
    /// The directory of its project file: registering that again replaces all of its tasks.
    pub project: String,
    /// The environment variables of the shell that registered it.
    pub variables: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_every_byte_in_both_encodings() {
        for bytes in [b"plain".as_slice(), b"", "\u{e4}\n\"".as_bytes(), b"\xff\x00\x80", b"\0\0\0\0"] {
            let word = Word(bytes.to_vec());
            let json = serde_json::to_string(&word).unwrap();
            assert_eq!(serde_json::from_str::<Word>(&json).unwrap(), word, "{json}");
            assert_eq!(postcard::from_bytes::<Word>(&postcard::to_stdvec(&word).unwrap()).unwrap(), word);
        }
        assert!(serde_json::from_str::<Word>(r#"{"$type":"set","base64":""}"#).is_err());
    }
}
