//! Moving the selection, filtering, searching, sorting, folding.

use ibid::protocol::{Anchor, List, Row, Sought};

use super::model::{Link, Model, Pane, Screen, Tab, Undo, Which};
use super::window::Goal;

impl Model {
    /// Keeps what is selected on the screen.
    pub fn show_selected(&mut self, which: Which) {
        let page = self.page(which);
        self.window_mut(which).show_selected(page);
    }

    /// Moves the selection, or what is selected in front of or beside the list.
    pub(super) fn move_by(&mut self, by: i64) {
        if self.on_run() && self.tab == Tab::Graph {
            let last = super::graph::lines(self).len().saturating_sub(1);
            let by = isize::try_from(by).unwrap_or(if by < 0 { isize::MIN } else { isize::MAX });
            self.graph_selected = self.graph_selected.saturating_add_signed(by).min(last);
            return;
        }
        if matches!(self.screen, Screen::Workers | Screen::Daemon) {
            let last = super::listings::plain_rows(self).len().saturating_sub(1) as u64;
            self.main.index = self.main.index.saturating_add_signed(by).min(last);
            self.main.offset =
                self.main.offset.clamp((self.main.index + 1).saturating_sub(self.page(Which::Main)), self.main.index);
            return;
        }
        let which = self.focus();
        let page = self.page(which);
        let connected = self.link == Link::Connected;
        let window = self.window_mut(which);
        let before = (window.at_top, window.at_end);
        let more = if connected {
            window.move_by(by, page)
        } else {
            window.move_within(by);
            None
        };
        if which == Which::Log {
            // Whoever scrolls up reads: what comes in does not move it.
            self.log.at_top = false;
            self.log.at_end = self.log.index + 1 >= self.log.total && self.log.wanted.is_none();
        }
        let window = self.window(which);
        // What the window is kept around changes when an end of the list is left or reached.
        let turned = before != (window.at_top, window.at_end) && window.wanted.is_none();
        match more {
            Some((anchor, goal)) => self.want(which, anchor, goal),
            None if turned => {
                let anchor = window.anchor();
                self.want(which, anchor, Goal::Keep);
            }
            None => {}
        }
        self.show_selected(which);
        if which == Which::Main {
            self.look_at_selected();
        }
    }

    /// To the last row; a log is followed from there.
    pub(super) fn go_to_end(&mut self) {
        if self.focus() == Which::Log && self.tab != Tab::Graph {
            self.follow(true);
        } else {
            self.move_by(i64::MAX / 2);
        }
    }

    /// Follows the log, or stays.
    pub(super) fn follow(&mut self, follow: bool) {
        self.log.at_end = follow;
        if follow {
            self.log.paused = false;
            self.want(Which::Log, Anchor::Last, Goal::Take);
            self.status.clear();
        } else {
            self.status = "the log stays here; f or G follows it".to_owned();
        }
    }

    /// Filters the list of the screen; where the keys are in a log, it is searched.
    pub(super) fn filter_by(&mut self, filter: String) {
        self.main.filter = filter;
        self.main.at_top = matches!(self.screen, Screen::Runs);
        if self.main.coming.is_some() {
            // One at a time, however fast somebody types: the last is asked for when the one before is there.
            self.main.again = true;
        } else {
            self.want(Which::Main, Anchor::First, Goal::Take);
        }
    }

    pub(super) fn clear_filter(&mut self) {
        if !self.main.filter.is_empty() {
            let filter = std::mem::take(&mut self.main.filter);
            if self.main.wrong.is_empty() {
                self.undo.push(Undo::Filter(self.screen.clone(), filter));
            }
            self.main.wrong.clear();
            // What was selected stays selected.
            let anchor = self.main.anchor();
            self.want(Which::Main, anchor, Goal::Take);
        }
        self.search.clear();
        self.log_search.clear();
    }

    /// Whether `/` searches a log rather than filtering the list.
    pub fn searches_log(&self) -> bool {
        self.on_run() && self.focus() == Which::Log
    }

    /// A key while a filter or a search is typed.
    pub(super) fn type_filter(&mut self, key: &str) {
        let in_log = self.searches_log();
        let mut text = if in_log { self.log_search.clone() } else { self.main.filter.clone() };
        match key {
            "enter" => {
                self.typing = false;
                if in_log {
                    // From the end of a log there is only one way.
                    self.search_on(self.log.index + 1 >= self.log.total);
                }
                return;
            }
            "esc" => {
                self.typing = false;
                if in_log {
                    self.log_search.clear()
                } else {
                    self.clear_filter()
                }
                return;
            }
            "^c" => {
                self.quit = true;
                return;
            }
            "backspace" => _ = text.pop(),
            "^u" => text.clear(),
            "space" => text.push(' '),
            key if key.chars().count() == 1 => text.push_str(key),
            _ => return,
        }
        if in_log {
            self.log_search = text;
        } else {
            // Words of a filter can be looked for again with n, once it is cleared.
            self.search = text.split_whitespace().filter(|word| !word.contains(':')).collect::<Vec<_>>().join(" ");
            self.filter_by(text);
        }
    }

    /// Goes to the next place with the text that was searched for, or back to the one before.
    pub(super) fn search_on(&mut self, back: bool) {
        let which = if self.searches_log() { Which::Log } else { Which::Main };
        let text = if which == Which::Log { self.log_search.clone() } else { self.search.clone() };
        if text.is_empty() {
            self.status = "nothing was searched for yet: / does".to_owned();
            return;
        }
        if which == Which::Log {
            self.log.at_end = false;
        }
        let anchor = self.window(which).search(Sought::Text(text), back);
        self.want(which, anchor, Goal::Find);
    }

    pub(super) fn go_to_failure(&mut self, back: bool) {
        let which = if self.searches_log() { Which::Log } else { Which::Main };
        if which == Which::Main {
            self.search.clear();
            self.main.at_top = false;
        } else {
            self.log.at_end = false;
            self.log_search.clear();
        }
        let anchor = self.window(which).search(Sought::Failure, back);
        self.want(which, anchor, Goal::Find);
    }

    /// Sorts by the next of the columns.
    pub(super) fn sort_by_next(&mut self) {
        let sorts = &self.main.sorts;
        let at = self.main.sort.as_ref().and_then(|sort| sorts.iter().position(|known| known == sort)).unwrap_or(0);
        let Some(next) = sorts.get((at + 1) % sorts.len().max(1)).cloned() else {
            self.status = "this list has one order only".to_owned();
            return;
        };
        self.main.sort = Some(next);
        self.main.reverse = false;
        self.sorted();
    }

    pub(super) fn sort_inversely(&mut self) {
        self.main.reverse = !self.main.reverse;
        self.sorted();
    }

    fn sorted(&mut self) {
        let sort = self.main.sort.clone().or_else(|| self.main.sorts.first().cloned()).unwrap_or_default();
        let how = if self.main.reverse { ", the other way round" } else { "" };
        self.status = format!("sorted by {sort}{how}");
        if let Some(list) = &self.main.list {
            self.remembered.sorts.insert(super::hearing::kind(list).to_owned(), (sort, self.main.reverse));
        }
        self.want(Which::Main, Anchor::First, Goal::Take);
    }

    /// Holds changes back, or shows them again.
    pub(super) fn pause(&mut self) {
        let which = self.focus();
        let window = self.window_mut(which);
        window.paused = !window.paused;
        window.behind = 0;
        if window.paused {
            self.status = "paused: what changes is held back until p".to_owned();
        } else {
            self.status.clear();
            let anchor = self.window(which).anchor();
            self.want(which, anchor, Goal::Keep);
        }
    }

    /// Folds or unfolds what is selected; folding what has nothing to fold goes to its caller.
    pub(super) fn fold(&mut self, fold: bool) {
        if self.tab != Tab::Tree || self.pane == Pane::Log {
            return;
        }
        match self.main.selected_row() {
            Some(Row::Group(group)) => {
                let (first, caller, unfolded) = (group.first, group.caller, group.unfolded);
                match (fold, unfolded) {
                    (false, _) => self.folds.groups.push(first),
                    (true, true) => self.folds.groups.retain(|other| *other != first),
                    (true, false) => return self.go_to_row(caller.map(|caller| caller.to_string())),
                }
            }
            Some(Row::Step(row)) => {
                let (id, caller, has_children) = (row.step.id, row.step.caller, row.has_children);
                let folded = self.folds.steps.contains(&id);
                match (fold, has_children, folded) {
                    (true, true, false) => self.folds.steps.push(id),
                    (true, ..) => {
                        let group = self.group_above();
                        return self.go_to_row(group.or(caller.map(|caller| caller.step.to_string())));
                    }
                    (false, _, true) => self.folds.steps.retain(|other| *other != id),
                    (false, _, false) => return,
                }
            }
            _ => return,
        }
        let Screen::Run(run) = self.screen else { return };
        self.main.list = Some(List::Steps { run, folds: self.folds.clone() });
        let anchor = self.main.anchor();
        self.want(Which::Main, anchor, Goal::Take);
    }

    /// The group that the selected step is a call of, if its row is above it.
    fn group_above(&self) -> Option<String> {
        let step = self.selected_step()?;
        let (name, caller) = (step.group.clone()?, step.caller?.step);
        (self.main.first..self.main.index).rev().find_map(|place| match self.main.row(place) {
            Some(row @ Row::Group(group)) if group.name == name && group.caller == Some(caller) => Some(row.key()),
            _ => None,
        })
    }

    fn go_to_row(&mut self, key: Option<String>) {
        let Some(key) = key else { return };
        let place = self.main.rows.iter().position(|row| row.key() == key).map(|at| self.main.first + at as u64);
        let more = match place {
            Some(place) => {
                let page = self.page(Which::Main);
                self.main.move_to(place, page)
            }
            None => Some((Anchor::Row { key, at: 0 }, Goal::Take)),
        };
        if let Some((anchor, goal)) = more {
            self.want(Which::Main, anchor, goal);
        }
        self.show_selected(Which::Main);
        self.look_at_selected();
    }
}
