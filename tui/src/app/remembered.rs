//! What is kept between two starts of the client: where the user was, how lists are sorted, what
//! workflows were started with. Losing it loses a convenience, nothing else.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ibid::protocol::Scope;
use serde::{Deserialize, Serialize};

/// How many earlier starts of a workflow are kept.
const STARTS_MAX: usize = 20;

/// Of how many workflows.
const TARGETS_MAX: usize = 200;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// The environment whose runs are listed; of all if absent.
    pub shown: Option<Scope>,
    /// The environment that was looked into last.
    pub scope: Option<Scope>,
    /// The run that was looked at last.
    pub run: Option<u64>,
    /// Whether its screen was open.
    pub on_run: bool,
    /// The selected row of that screen.
    pub selected: String,
    pub wrap: bool,
    /// By the name of the list: by what it is sorted, and whether the other way round.
    pub sorts: BTreeMap<String, (String, bool)>,
    /// By target: the arguments of earlier starts as they were typed, the newest first.
    pub starts: BTreeMap<String, Vec<Vec<String>>>,
}

impl Remembered {
    /// Reads what was kept; whatever cannot be read counts as nothing.
    pub fn read(data: &Path) -> Self {
        let text = std::fs::read_to_string(file(data)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Keeps it. The file replaces the old one at once or not at all.
    pub fn write(&self, data: &Path) -> std::io::Result<()> {
        let path = file(data);
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(new, path)
    }

    /// Notes what a workflow was started with.
    pub fn note_start(&mut self, target: &str, typed: Vec<String>) {
        if self.starts.len() >= TARGETS_MAX && !self.starts.contains_key(target) {
            self.starts.pop_first();
        }
        let starts = self.starts.entry(target.to_owned()).or_default();
        starts.retain(|other| *other != typed);
        starts.insert(0, typed);
        starts.truncate(STARTS_MAX);
    }
}

fn file(data: &Path) -> PathBuf {
    data.join("client.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_started_is_remembered_newest_first_and_once() {
        let mut remembered = Remembered::default();
        for typed in ["1", "2", "1"] {
            remembered.note_start("m/w", vec![typed.to_owned()]);
        }
        assert_eq!(remembered.starts["m/w"], [["1"], ["2"]]);
        for typed in 0..100 {
            remembered.note_start("m/w", vec![typed.to_string()]);
        }
        assert_eq!(remembered.starts["m/w"].len(), STARTS_MAX);
    }

    #[test]
    fn a_file_that_is_not_right_is_no_file() {
        let home = std::env::temp_dir().join(format!("ibid-remembered-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let kept = Remembered { run: Some(7), ..Remembered::default() };
        kept.write(&home).unwrap();
        assert_eq!(Remembered::read(&home), kept);
        std::fs::write(file(&home), "{\"run\": \"seven\"").unwrap();
        assert_eq!(Remembered::read(&home), Remembered::default());
        std::fs::remove_dir_all(&home).unwrap();
    }
}
