//! `config.toml`: what the daemon does otherwise than by default. Every key is optional.

use std::path::Path;

use serde::Deserialize;

/// The keys of the file.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Stop worker processes that have been idle for this long, seconds.
    pub worker_idle: Option<f64>,
    /// How many worker processes one repository may have, waiting ones included.
    pub processes: Option<usize>,
    /// How much of an execution's log is kept, e.g. `"16MiB"`.
    pub log_limit: Option<Size>,
    /// How long running work may take to end when the daemon stops, seconds.
    pub drain: Option<f64>,
    /// How the terminal client looks, and what its keys do: read by that.
    pub client: toml::Table,
    /// Its keys.
    pub keys: toml::Table,
}

/// A number of bytes: a number, or a text with a unit (`KiB`, `MiB`, `GiB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Size(pub usize);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(usize),
    Text(String),
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no size: write a number of bytes, or 512KiB, 16MiB, 1GiB");
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let factor: usize = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1024,
            "MiB" => 1024 * 1024,
            "GiB" => 1024 * 1024 * 1024,
            _ => return Err(wrong()),
        };
        let number: usize = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

/// Reads the file; without one everything is as by default.
///
/// # Errors
/// Where it cannot be read or a key is not right, with its place.
pub fn read(path: &Path) -> Result<Config, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|error| format!("{} is not right: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_unknown_keys_are_refused() {
        let read = |text: &str| toml::from_str::<Config>(text);
        assert_eq!(read("log_limit = \"16MiB\"").unwrap().log_limit, Some(Size(16 * 1024 * 1024)));
        assert_eq!(read("log_limit = 70000\nprocesses = 3").unwrap().processes, Some(3));
        assert!(read("log_limit = \"much\"").unwrap_err().to_string().contains("is no size"));
        assert!(read("loglimit = 1").unwrap_err().to_string().contains("unknown field"));
    }
}
