//! The palette and the help: every action by its words, with the keys that it has now.

use super::actions::{ALL, Entry};
use super::model::{Model, Overlay};

/// The actions that make sense here and match what is typed, each word anywhere in their words or name.
pub fn matching(model: &Model, typed: &str) -> Vec<&'static Entry> {
    let words: Vec<String> = typed.split_whitespace().map(str::to_lowercase).collect();
    ALL.iter()
        .filter(|entry| model.is_possible(entry))
        .filter(|entry| {
            let text = format!("{} {} {}", entry.words, entry.bar, entry.name).to_lowercase();
            words.iter().all(|word| text.contains(word))
        })
        .collect()
}

impl Model {
    /// A key in the palette.
    pub(super) fn press_palette(&mut self, typed: String, selected: usize, key: &str) {
        if let Some((typed, selected)) = self.choose_action(typed, selected, key) {
            self.overlay = Some(Overlay::Palette { typed, selected });
        }
    }

    /// A key in the help, which is the same list under another name.
    pub(super) fn press_help(&mut self, typed: String, selected: usize, key: &str) {
        if typed.is_empty() && matches!(key, "q" | "?") {
            return;
        }
        let key = match (typed.is_empty(), key) {
            (true, "j") => "down",
            (true, "k") => "up",
            (_, key) => key,
        };
        if let Some((typed, selected)) = self.choose_action(typed, selected, key) {
            self.overlay = Some(Overlay::Help { typed, selected });
        }
    }

    /// What is typed and selected after a key; nothing if that did or closed it.
    fn choose_action(&mut self, mut typed: String, mut selected: usize, key: &str) -> Option<(String, usize)> {
        let found = matching(self, &typed);
        match key {
            "enter" => {
                if let Some(entry) = found.get(selected) {
                    self.status.clear();
                    self.act(entry.action);
                }
                return None;
            }
            "down" | "tab" => selected = (selected + 1).min(found.len().saturating_sub(1)),
            "up" => selected = selected.saturating_sub(1),
            "pgdn" | "^d" => selected = (selected + 10).min(found.len().saturating_sub(1)),
            "pgup" | "^u" => selected = selected.saturating_sub(10),
            "backspace" => {
                typed.pop()?;
                selected = 0;
            }
            "space" => typed.push(' '),
            key if key.chars().count() == 1 => {
                typed.push_str(key);
                selected = 0;
            }
            _ => {}
        }
        Some((typed, selected))
    }
}
