//! How the model changes by keys.

use super::actions::{Action, Entry, Match, Place};
use super::model::{Link, Model, Overlay, Pane, Purpose, Screen, Tab, Times, Which};
use ibid::protocol::Anchor;

impl Model {
    /// A key was pressed, written as in the registry of actions: `j`, `enter`, `^d`.
    pub fn press(&mut self, key: &str) {
        if self.typing {
            self.type_filter(key);
            return;
        }
        if self.overlay.is_some() && self.press_overlay(key) {
            return;
        }
        let mut keys = std::mem::take(&mut self.chord);
        keys.push_str(key);
        match self.keymap.find(&keys, |entry| self.is_possible(entry)) {
            Match::Action(action) => {
                self.status.clear();
                self.act(action);
            }
            Match::Partial => self.chord = keys,
            Match::None => {}
        }
    }

    /// Whether an action means something here.
    pub fn is_possible(&self, entry: &Entry) -> bool {
        match entry.place {
            Place::Everywhere => true,
            Place::Lists => self.main.list.is_some(),
            Place::Run => self.on_run(),
            Place::Log => self.on_run(),
            Place::Keys => self.on_run() || matches!(self.screen, Screen::Keys(_) | Screen::Key(_) | Screen::Queue),
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        let half = i64::try_from(self.page(self.focus()) / 2).unwrap_or(1).max(1);
        match action {
            Action::Down => self.move_by(1),
            Action::Up => self.move_by(-1),
            Action::HalfPageDown => self.move_by(half),
            Action::HalfPageUp => self.move_by(-half),
            Action::Top => self.move_by(i64::MIN / 2),
            Action::Bottom => self.go_to_end(),
            Action::Fold => self.fold(true),
            Action::Unfold => self.fold(false),
            Action::Open => self.open_selected(),
            Action::Close => {
                if self.on_run() && self.tab != Tab::Tree {
                    self.show_tab(Tab::Tree);
                } else if self.on_run() && self.pane != Pane::Tree {
                    self.pane = Pane::Tree;
                } else {
                    self.marked.clear();
                    self.clear_filter();
                }
            }
            Action::Back => self.go_back(),
            Action::Quit => self.quit = true,
            Action::Suspend => self.suspend = true,
            Action::Pane => {
                self.pane = match self.pane {
                    Pane::Tree => Pane::Inspector,
                    Pane::Inspector => Pane::Log,
                    Pane::Log => Pane::Tree,
                };
                self.show_selected(Which::Log);
            }
            Action::NextTab => self.next_tab(false),
            Action::PreviousTab => self.next_tab(true),
            Action::ScreenRuns => {
                if self.screen != Screen::Runs {
                    let here = self.here();
                    self.back.push(here);
                    self.show_runs();
                }
            }
            Action::ScreenRun => match (self.on_run(), self.last_run.or_else(|| self.selected_run().map(|run| run.id)))
            {
                (true, _) => {}
                (_, Some(run)) => self.open_run(run, None),
                (_, None) => self.status = "no run to look at yet".to_owned(),
            },
            Action::ScreenQueue => self.go(Screen::Queue, Anchor::First),
            Action::ScreenCache => self.go(Screen::Namespaces, Anchor::First),
            Action::ScreenWorkers => self.go(Screen::Workers, Anchor::First),
            Action::ScreenDaemon => self.go(Screen::Daemon, Anchor::First),
            Action::WhereIWas => self.where_i_was(),
            Action::Filter if self.link != Link::Connected => {
                self.status = "not connected to the daemon, which is the one that filters and searches".to_owned();
            }
            Action::Filter => self.typing = true,
            Action::NextMatch => self.search_on(false),
            Action::PreviousMatch => self.search_on(true),
            Action::NextFailure => self.go_to_failure(false),
            Action::PreviousFailure => self.go_to_failure(true),
            Action::Sort => self.sort_by_next(),
            Action::Inverse => self.sort_inversely(),
            Action::Pause => self.pause(),
            Action::Follow => self.follow(!self.log.at_end),
            Action::Wrap => {
                self.wrap = !self.wrap;
                self.status = if self.wrap { "long lines are wrapped" } else { "long lines are cut" }.to_owned();
            }
            Action::Times => {
                self.times = match self.times {
                    Times::OfDay => Times::SinceStart,
                    Times::SinceStart => Times::None,
                    Times::None => Times::OfDay,
                };
            }
            Action::Stream => match &self.log.head {
                ibid::protocol::Head::Log { execution, .. } => self.stream = Some(*execution),
                _ => self.status = "there is no log here".to_owned(),
            },
            Action::GoSource => self.go_to_source(),
            Action::GoWaiters => self.ask_waiters(),
            Action::GoCaller => self.go_to_caller(),
            Action::GoKey => self.go_to_key(),
            Action::GoLog => self.show_tab(Tab::Log),
            Action::Explain => {
                if let Some(id) = self.selected_or_said() {
                    self.ask_why(Purpose::Why, id);
                }
            }
            Action::Compare => self.compare(),
            Action::Mark => self.mark_selected(),
            Action::Rerun => self.ask_rerun(),
            Action::Cancel => self.cancel_selected(),
            Action::Forget => self.forget_selected(),
            Action::Pin => self.pin_selected(),
            Action::Undo => self.undo_last(),
            Action::Start => self.ask_targets(),
            Action::Sensors => self.ask_sensors(),
            Action::Environments => self.ask_environments(),
            Action::Palette => self.overlay = Some(Overlay::Palette { typed: String::new(), selected: 0 }),
            Action::CopyId
            | Action::CopyKey
            | Action::CopyArguments
            | Action::CopyResult
            | Action::CopyCommand
            | Action::Where => self.copy(action),
            Action::Mouse => {
                self.mouse = !self.mouse;
                self.status = if self.mouse {
                    "the mouse selects and scrolls here; :mouse gives it back to the terminal".to_owned()
                } else {
                    "the mouse is the terminal's again".to_owned()
                };
            }
            Action::Help => self.overlay = Some(Overlay::Help { typed: String::new(), selected: 0 }),
        }
    }

    /// The terminal has another size.
    pub fn resized(&mut self, size: (u16, u16)) {
        self.size = size;
        for which in [Which::Main, Which::Log, Which::Key] {
            self.show_selected(which);
        }
    }

    /// The wheel was turned, or a row of the body clicked.
    pub fn scrolled(&mut self, down: bool) {
        if self.overlay.is_none() {
            self.move_by(if down { 3 } else { -3 });
        }
    }

    pub fn clicked(&mut self, line: u16) {
        // Above the rows are the header, the border and the headings.
        let Some(row) =
            line.checked_sub(self.edge() + 2).filter(|_| self.overlay.is_none() && self.focus() == Which::Main)
        else {
            return;
        };
        let place = self.main.offset + u64::from(row);
        if place < self.main.total && u64::from(row) < self.page(Which::Main) {
            let by = i64::try_from(place).unwrap_or(0) - i64::try_from(self.main.index).unwrap_or(0);
            if by == 0 { self.open_selected() } else { self.move_by(by) }
        }
    }

    /// Opens what was open when the client was left.
    pub fn restore(&mut self) {
        let remembered = self.remembered.clone();
        self.wrap = remembered.wrap;
        self.shown_scope.clone_from(&remembered.shown);
        self.last_run = remembered.run.map(ibid::model::RunId);
        if let Some((sort, reverse)) = remembered.sorts.get("runs") {
            self.main.sort = Some(sort.clone());
            self.main.reverse = *reverse;
        }
        self.main.list = Some(ibid::protocol::List::Runs { scope: self.shown_scope.clone() });
        if let (true, Some(run)) = (remembered.on_run, self.last_run) {
            let at = Anchor::Row { key: remembered.selected, at: 0 };
            self.show(Screen::Run(run), at, String::new());
        }
    }

    /// Notes what is kept until the next start.
    pub fn remember(&mut self) {
        self.remembered.scope = Some(self.scope_shown());
        self.remembered.shown.clone_from(&self.shown_scope);
        self.remembered.run = self.last_run.map(|run| run.0);
        self.remembered.on_run = self.on_run();
        self.remembered.selected.clone_from(&self.main.selected);
        self.remembered.wrap = self.wrap;
    }
}
