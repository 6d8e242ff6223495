//! Which keys do what: as the registry says, unless the configuration says otherwise.

use std::collections::BTreeMap;

use super::actions::{ALL, Action, Entry, Match};

/// The keys of every action.
#[derive(Debug, Clone)]
pub struct Keymap {
    keys: BTreeMap<Action, Vec<String>>,
}

impl Default for Keymap {
    fn default() -> Self {
        let keys = |entry: &Entry| entry.keys.iter().map(|key| (*key).to_owned()).collect();
        Self { keys: ALL.iter().map(|entry| (entry.action, keys(entry))).collect() }
    }
}

impl Keymap {
    /// The registry's keys with some replaced; an action without keys is found in the palette only.
    ///
    /// # Errors
    /// Where an action or key is not known, or two actions would have the same key.
    pub fn with(changed: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut map = Self::default();
        for (name, keys) in changed {
            let Some(entry) = ALL.iter().find(|entry| entry.name == name) else {
                let names: Vec<_> = ALL.iter().map(|entry| entry.name).collect();
                return Err(format!("there is no action '{name}'; there are {}", names.join(", ")));
            };
            if let Some(wrong) = keys.iter().find(|key| !is_key(key)) {
                return Err(format!(
                    "'{wrong}' is no key for '{name}': write one character, two for a chord, ^x with control, or one \
                     of {}",
                    NAMED.join(" ")
                ));
            }
            map.keys.insert(entry.action, keys.clone());
        }
        let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in ALL {
            for key in map.of(entry.action) {
                if let Some(other) = taken.insert(key, entry.name) {
                    return Err(format!("the key '{key}' would do both '{other}' and '{}'", entry.name));
                }
            }
        }
        let chords = taken.keys().filter(|key| is_chord(key));
        for chord in chords {
            let start: String = chord.chars().take(1).collect();
            if let (Some(alone), Some(both)) = (taken.get(start.as_str()), taken.get(chord)) {
                return Err(format!("'{chord}' ({both}) can never be typed: '{start}' does '{alone}' at once"));
            }
        }
        Ok(map)
    }

    /// The keys of an action.
    pub fn of(&self, action: Action) -> &[String] {
        self.keys.get(&action).map_or(&[], Vec::as_slice)
    }

    /// Finds the action of a key or chord among those that are possible.
    pub fn find(&self, keys: &str, possible: impl Fn(&Entry) -> bool) -> Match {
        let mut partial = false;
        for entry in ALL.iter().filter(|entry| possible(entry)) {
            for key in self.of(entry.action) {
                if key == keys {
                    return Match::Action(entry.action);
                }
                partial |= is_chord(key) && key.starts_with(keys);
            }
        }
        if partial { Match::Partial } else { Match::None }
    }
}

const NAMED: [&str; 14] = [
    "enter",
    "esc",
    "tab",
    "space",
    "backspace",
    "up",
    "down",
    "left",
    "right",
    "home",
    "end",
    "pgup",
    "pgdn",
    "delete",
];

fn is_chord(key: &str) -> bool {
    key.chars().count() == 2 && !key.starts_with('^') && !NAMED.contains(&key)
}

fn is_key(key: &str) -> bool {
    let count = key.chars().count();
    NAMED.contains(&key) || count == 1 || count == 2 && key.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(pairs: &[(&str, &[&str])]) -> Result<Keymap, String> {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Keymap::with(&pairs.iter().map(|(name, list)| ((*name).to_owned(), keys(list))).collect())
    }

    #[test]
    fn chords_begin_with_a_key_that_does_nothing_by_itself() {
        let map = changed(&[]).unwrap();
        let all = |_: &Entry| true;
        assert_eq!(map.find("g", all), Match::Partial);
        assert_eq!(map.find("gf", all), Match::Action(Action::GoSource));
        assert_eq!(map.find("gx", all), Match::None);
        assert_eq!(map.find("e", all), Match::Action(Action::Explain));
        assert_eq!(map.find("^", all), Match::None);
    }

    #[test]
    fn keys_can_be_changed_but_not_be_given_twice() {
        let map = changed(&[("rerun", &["B", "gr"]), ("mouse", &["m"])]).unwrap();
        assert_eq!(map.find("B", |_| true), Match::Action(Action::Rerun));
        assert_eq!(map.find("gr", |_| true), Match::Action(Action::Rerun));
        assert_eq!(map.find("r", |_| true), Match::None);
        assert!(changed(&[("rerun", &["x"])]).unwrap_err().contains("'cancel'"));
        assert!(changed(&[("rerun", &["g"])]).unwrap_err().contains("can never be typed"));
        assert!(changed(&[("fly", &["x"])]).unwrap_err().contains("no action 'fly'"));
        assert!(changed(&[("rerun", &["hello"])]).unwrap_err().contains("is no key"));
    }
}
