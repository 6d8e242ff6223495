//! The palette: every action by its words.

use super::actions::{self, Entry, Place};
use super::model::{Model, Overlay, Screen};

/// The actions that make sense here and match what is typed, each word anywhere in their words.
pub fn matching(model: &Model, typed: &str) -> Vec<&'static Entry> {
    let on_run = matches!(model.screen, Screen::Run(_));
    let words: Vec<String> = typed.split_whitespace().map(str::to_lowercase).collect();
    actions::ALL
        .iter()
        .filter(|entry| entry.place == Place::Everywhere || on_run)
        .filter(|entry| {
            let text = format!("{} {}", entry.words, entry.bar).to_lowercase();
            words.iter().all(|word| text.contains(word))
        })
        .collect()
}

impl Model {
    /// A key in the palette.
    pub fn press_palette(&mut self, mut typed: String, mut selected: usize, key: &str) {
        let found = matching(self, &typed);
        match key {
            "enter" => {
                if let Some(entry) = found.get(selected) {
                    self.status.clear();
                    self.act(entry.action);
                }
                return;
            }
            "down" | "tab" => selected = (selected + 1).min(found.len().saturating_sub(1)),
            "up" => selected = selected.saturating_sub(1),
            "backspace" => {
                if typed.pop().is_none() {
                    return;
                }
                selected = 0;
            }
            "space" => typed.push(' '),
            key if key.chars().count() == 1 => {
                typed.push_str(key);
                selected = 0;
            }
            _ => {}
        }
        self.overlay = Some(Overlay::Palette { typed, selected });
    }
}
