//! Keys while something stands in front of the screen.

use ibid::model::Id;
use ibid::protocol::{Cancel, Request, Scope};

use super::model::{Model, Overlay, Purpose};

impl Model {
    /// Says whether the overlay has taken the key.
    pub(super) fn press_overlay(&mut self, key: &str) -> bool {
        let Some(overlay) = self.overlay.take() else { return false };
        match (overlay, key) {
            (_, "^c") => self.quit = true,
            (overlay, "^z") => {
                self.overlay = Some(overlay);
                self.suspend = true;
            }
            (Overlay::Sensors(board), key) if board.typing.is_some() || !matches!(key, "esc" | "q" | "S") => {
                self.press_board(board, key);
            }
            (Overlay::Palette { typed, selected }, key) if key != "esc" => self.press_palette(typed, selected, key),
            (Overlay::Help { typed, selected }, key) if key != "esc" => self.press_help(typed, selected, key),
            (Overlay::Start(form), key) => self.press_form(form, key),
            (_, "esc" | "q") | (Overlay::Sensors(_), _) => {}
            (Overlay::Explain { .. }, "e") | (Overlay::Compare { .. }, "d") => {}
            (Overlay::Explain { explanation, .. }, "d") => self.compare_with_nearest(&explanation),
            (Overlay::Explain { explanation, scroll }, "gf" | "f") => {
                let to = explanation.facts.iter().chain(&explanation.causes).find_map(|fact| fact.id);
                match to {
                    Some(id) => self.open_id(id),
                    None => {
                        self.status = "this explanation refers to nothing else".to_owned();
                        self.overlay = Some(Overlay::Explain { explanation, scroll });
                    }
                }
            }
            (Overlay::Explain { explanation, scroll }, key) => {
                self.overlay = Some(Overlay::Explain { explanation, scroll: scrolled(scroll, key) });
            }
            (Overlay::Compare { comparison, scroll, all }, "tab" | "enter" | "space") => {
                self.overlay = Some(Overlay::Compare { comparison, scroll, all: !all });
            }
            (Overlay::Compare { comparison, scroll, all }, key) => {
                self.overlay = Some(Overlay::Compare { comparison, scroll: scrolled(scroll, key), all });
            }
            (Overlay::Rerun { step, predicted }, key) => {
                if !self.rerun(step, key) {
                    self.overlay = Some(Overlay::Rerun { step, predicted });
                }
            }
            (Overlay::Cancel { id, .. }, "m") => {
                self.ask(Purpose::Cancel, Request::Cancel(Cancel { id, force: false }));
            }
            (Overlay::Cancel { id, .. }, "a") => {
                self.ask(Purpose::Cancel, Request::Cancel(Cancel { id, force: true }));
            }
            (Overlay::Choose { ids, selected, .. }, "enter") => {
                if let Some(id) = ids.get(selected) {
                    self.open_id(Id::Execution(*id));
                }
            }
            (Overlay::Choose { title, ids, selected }, key) => {
                let selected = moved(selected, key, ids.len());
                self.overlay = Some(Overlay::Choose { title, ids, selected });
            }
            (Overlay::Environments { environments, selected }, "enter") => {
                let chosen = selected.checked_sub(1).and_then(|at| environments.get(at));
                let scope =
                    chosen.map(|env| Scope { project: env.project.clone(), environment: env.environment.clone() });
                self.switch_environment(scope);
            }
            (Overlay::Environments { environments, selected }, key) => {
                let selected = moved(selected, key, environments.len() + 1);
                self.overlay = Some(Overlay::Environments { environments, selected });
            }
            (other, _) => self.overlay = Some(other),
        }
        true
    }
}

fn scrolled(scroll: u16, key: &str) -> u16 {
    match key {
        "j" | "down" => scroll.saturating_add(1),
        "k" | "up" => scroll.saturating_sub(1),
        "^d" | "pgdn" => scroll.saturating_add(10),
        "^u" | "pgup" => scroll.saturating_sub(10),
        "home" | "g" => 0,
        _ => scroll,
    }
}

fn moved(selected: usize, key: &str, count: usize) -> usize {
    let last = count.saturating_sub(1);
    match key {
        "j" | "down" => (selected + 1).min(last),
        "k" | "up" => selected.saturating_sub(1),
        "^d" | "pgdn" => (selected + 10).min(last),
        "^u" | "pgup" => selected.saturating_sub(10),
        "G" | "end" => last,
        "home" | "g" => 0,
        _ => selected,
    }
}
