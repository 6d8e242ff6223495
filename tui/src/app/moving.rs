//! Moving the selection, folding, and keeping what is selected on the screen.

use ibid::model::{RunId, State};

use super::model::{Model, Pane, Screen};
use super::tree;

impl Model {
    pub(super) fn keep_selection_listed(&mut self) {
        match self.screen {
            Screen::Runs => {
                let ids: Vec<_> = self.listed_runs().iter().map(|run| run.id).collect();
                if !self.selected_run.is_some_and(|id| ids.contains(&id)) {
                    self.selected_run = ids.first().copied();
                }
            }
            Screen::List(_) => {}
            Screen::Run(_) => {
                let keys: Vec<_> = self.listed_rows().iter().map(|row| row.key()).collect();
                if !self.looked.key().is_some_and(|key| keys.contains(&key)) {
                    self.looked.select(keys.first().copied());
                    self.follow_log(false);
                }
            }
        }
        self.show_selected();
    }

    pub(super) fn fold(&mut self, fold: bool) {
        let Some((selected, on_group)) = self.looked.key() else { return };
        if on_group {
            let groups = &mut self.looked.folds.groups;
            let caller = self.looked.steps.get(&selected).and_then(|step| step.caller);
            match (fold, groups.contains(&selected)) {
                (false, _) => _ = groups.insert(selected),
                (true, true) => _ = groups.remove(&selected),
                (true, false) => self.looked.select(caller.map(|caller| (caller.step, false))),
            }
            self.rebuild_rows();
            self.show_selected();
            return;
        }
        let row = self.looked.rows.iter().find(|row| row.key() == (selected, false));
        let group =
            self.looked.rows.iter().find(|row| row.group.as_ref().is_some_and(|group| group.steps.contains(&selected)));
        let group = group.map(|row| (row.step, true));
        let parent = self.looked.steps.get(&selected).and_then(|step| step.caller).map(|caller| caller.step);
        match (fold, row.is_some_and(|row| row.has_children), self.looked.folds.steps.contains(&selected)) {
            (true, true, false) => {
                self.looked.folds.steps.insert(selected);
            }
            (true, ..) => {
                let above = group.or(parent.map(|parent| (parent, false)));
                self.looked.select(above.or(Some((selected, false))));
            }
            (false, ..) => {
                self.looked.folds.steps.remove(&selected);
            }
        }
        self.rebuild_rows();
        self.show_selected();
    }

    pub(super) fn move_by(&mut self, by: isize) {
        if matches!(self.screen, Screen::Run(_)) && self.pane == Pane::Log {
            let length = self.looked.log.len();
            self.looked.log_back = self.looked.log_back.saturating_add_signed(by.saturating_neg()).min(length);
            return;
        }
        match self.screen {
            Screen::Runs => {
                let ids: Vec<RunId> = self.listed_runs().iter().map(|run| run.id).collect();
                if let Some((index, id)) = step_along(&ids, self.selected_run, by) {
                    self.selected_run = Some(id);
                    self.at_top = index == 0;
                    if self.at_top {
                        self.new_above = 0;
                    }
                }
            }
            Screen::List(_) => self.move_in_listing(by),
            Screen::Run(_) => {
                let keys: Vec<tree::RowKey> = self.listed_rows().iter().map(|row| row.key()).collect();
                if let Some((_, key)) = step_along(&keys, self.looked.key(), by) {
                    self.looked.select(Some(key));
                    self.follow_log(false);
                }
            }
        }
        self.show_selected();
    }

    pub(super) fn go_to_failure(&mut self, forward: bool) {
        let bad = |state: State| state.is_bad() && state != State::Cancelled;
        let found = match self.screen {
            Screen::Runs => {
                let runs: Vec<_> = self.listed_runs().iter().map(|run| (run.id, bad(run.state))).collect();
                next_marked(&runs, self.selected_run, forward).map(|id| self.selected_run = Some(id))
            }
            Screen::List(_) => None,
            Screen::Run(_) => {
                let steps = &self.looked.steps;
                let rows: Vec<_> = self
                    .listed_rows()
                    .iter()
                    .map(|row| {
                        let state = match &row.group {
                            Some(group) => Some(group.state(steps)),
                            None => steps.get(&row.step).map(tree::shown_state),
                        };
                        (row.key(), state.is_some_and(bad))
                    })
                    .collect();
                next_marked(&rows, self.looked.key(), forward).map(|key| self.looked.select(Some(key)))
            }
        };
        if found.is_none() {
            self.status = "no further failure here".to_owned();
        }
        self.follow_log(false);
        self.show_selected();
    }

    /// Scrolls as little as is needed to have the selection on the screen.
    pub fn show_selected(&mut self) {
        let page = self.page();
        match self.screen {
            Screen::Runs => {
                let at = self.selected_run.and_then(|id| self.listed_runs().iter().position(|run| run.id == id));
                self.runs_offset = scrolled(self.runs_offset, at.unwrap_or(0), page);
            }
            Screen::List(_) => {
                let at = self.listing_place(&self.listed());
                self.listings.offset = scrolled(self.listings.offset, at, page);
            }
            Screen::Run(_) => {
                let key = self.looked.key();
                let at = key.and_then(|key| self.listed_rows().iter().position(|row| row.key() == key));
                let page = if self.narrow() { page } else { page.saturating_sub(usize::from(self.size.1) / 4).max(1) };
                self.looked.offset = scrolled(self.looked.offset, at.unwrap_or(0), page);
            }
        }
    }
}

fn scrolled(offset: usize, at: usize, page: usize) -> usize {
    offset.clamp((at + 1).saturating_sub(page), at)
}

fn step_along<T: Copy + PartialEq>(ids: &[T], from: Option<T>, by: isize) -> Option<(usize, T)> {
    let at = from.and_then(|from| ids.iter().position(|id| *id == from)).unwrap_or(0);
    let index = at.saturating_add_signed(by).min(ids.len().checked_sub(1)?);
    Some((index, ids[index]))
}

fn next_marked<T: Copy + PartialEq>(ids: &[(T, bool)], from: Option<T>, forward: bool) -> Option<T> {
    let at = from.and_then(|from| ids.iter().position(|(id, _)| *id == from));
    let marked = |(id, marked): &(T, bool)| marked.then_some(*id);
    match (forward, at) {
        (true, at) => ids.iter().skip(at.map_or(0, |at| at + 1)).find_map(marked),
        (false, at) => ids.iter().take(at.unwrap_or(0)).rev().find_map(marked),
    }
}
