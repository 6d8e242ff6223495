//! How the model changes: by keys, by what the daemon says, by time.

use ibid::model::{ExecutionId, Id, RunId, State, StepId};
use ibid::protocol::{
    Cancel, EventBody, ListSensors, Notice, Outgoing, Refused, Register, Reply, Request, Rerun, Scope, Show, Submit,
    Subscribe, Topic, Unsubscribe, Why,
};

use super::actions::{self, Action, Match};
use super::listings::Listing;
use super::model::{LOG_LINES_MAX, Link, Looked, Model, Overlay, Pane, Place, Purpose, RUNS_MAX, Screen};
use super::sensors::SensorBoard;
use super::tree;

impl Model {
    pub(super) fn ask(&mut self, purpose: Purpose, request: Request) {
        if self.link != Link::Connected {
            self.status = "not connected to the daemon, so nothing can be asked of it now".to_owned();
            return;
        }
        let number = self.next_request;
        self.next_request += 1;
        self.asked.insert(number, purpose);
        self.newest.insert(purpose, number);
        self.outgoing.push((number, request));
    }

    /// A connection is there: everything shown is subscribed to again.
    pub fn connected(&mut self) {
        self.link = Link::Connected;
        self.asked.clear();
        self.subscriptions.clear();
        self.ask(Purpose::Stats, Request::Subscribe(Subscribe { topic: Topic::Stats }));
        let topic = Topic::Runs { scope: None, limit: Some(500) };
        self.ask(Purpose::Runs, Request::Subscribe(Subscribe { topic }));
        self.ask_listing();
        if let Screen::Run(run) = self.screen {
            self.ask(Purpose::Run, Request::Subscribe(Subscribe { topic: Topic::Run { run } }));
        }
        self.follow_log(true);
    }

    /// The connection is gone; what is loaded stays.
    pub fn disconnected(&mut self, why: String) {
        if !matches!(self.link, Link::Lost(..)) {
            self.link = Link::Lost(self.now, why);
        }
        self.outgoing.clear();
    }

    /// Something came from the daemon.
    pub fn hear(&mut self, message: Outgoing) {
        match message {
            Outgoing::Reply(number, reply) => {
                let Some(purpose) = self.asked.remove(&number) else { return };
                match reply {
                    Ok(Reply::Subscribe(subscribed)) if self.newest.get(&purpose) != Some(&number) => {
                        // The user has moved on since it was asked for.
                        let subscription = subscribed.subscription;
                        self.ask(Purpose::Unsubscribe, Request::Unsubscribe(Unsubscribe { subscription }));
                    }
                    Ok(reply) => self.answered(purpose, reply),
                    Err(refused) => self.refused(purpose, &refused),
                }
            }
            Outgoing::Notice(Notice::Event(event)) => {
                if self.subscriptions.contains_key(&event.subscription) {
                    self.changed(event.subscription, event.snapshot, event.body);
                }
            }
            Outgoing::Notice(Notice::Order(_)) => {}
        }
    }

    fn refused(&mut self, purpose: Purpose, refused: &Refused) {
        self.status = refused.message.lines().next().unwrap_or_default().to_owned();
        if purpose == Purpose::Run && refused.kind == "not_found" {
            self.screen = Screen::Runs;
        }
    }

    fn answered(&mut self, purpose: Purpose, reply: Reply) {
        match (purpose, reply) {
            (purpose, Reply::Subscribe(subscribed)) => {
                self.subscriptions.insert(subscribed.subscription, purpose);
            }
            (Purpose::Listing, reply) => self.take_listing(reply),
            (_, Reply::Why(explanation)) => {
                self.overlay = Some(Overlay::Explain { explanation: Box::new(explanation), scroll: 0 });
            }
            (_, Reply::Rerun(rerunning)) => {
                self.status = format!("{} runs again", rerunning.execution);
            }
            (Purpose::SensorChanged, Reply::Cancel(cancelled)) => {
                let runs: Vec<_> = cancelled.stopped.iter().map(|step| step.run.to_string()).collect();
                self.status = format!("stopped {}", runs.join(" "));
                self.ask_sensors();
            }
            (_, Reply::Cancel(cancelled)) => {
                let ids = |ids: &[StepId]| ids.iter().take(5).map(ToString::to_string).collect::<Vec<_>>().join(" ");
                self.status = match (cancelled.stopped.as_slice(), cancelled.kept.as_slice()) {
                    (stopped, []) => format!("cancelled {}", ids(stopped)),
                    ([], kept) => format!("cancelled here; goes on for others: {}", ids(kept)),
                    (stopped, kept) => format!("cancelled {}; goes on for others: {}", ids(stopped), ids(kept)),
                };
            }
            (purpose, Reply::Sensors(list)) => match &mut self.overlay {
                Some(Overlay::Sensors(board)) => board.update(list),
                _ if purpose == Purpose::Sensors => {
                    self.overlay = Some(Overlay::Sensors(Box::new(SensorBoard::new(list))));
                }
                _ => {}
            },
            (_, Reply::SensorStart(started)) => {
                self.status = format!("{} is kept running", started.run);
                self.ask_sensors();
            }
            (Purpose::Waiters, Reply::Show(shown)) => {
                let mut ids = shown.execution.followers.clone();
                ids.extend(shown.borrowers.iter().filter(|id| !shown.execution.followers.contains(id)));
                if ids.is_empty() {
                    self.status = format!("nobody joined {} or took its result", shown.execution.id);
                } else {
                    let title = format!("joined {} or took its result", shown.execution.id);
                    self.overlay = Some(Overlay::Choose { title, ids, selected: 0 });
                }
            }
            (Purpose::DemoRegister, Reply::Register(_)) => {
                let start = Submit::new(
                    Scope { project: "demo".to_owned(), environment: "default".to_owned() },
                    "ibid.demo/tour",
                );
                self.ask(Purpose::DemoStart, Request::Submit(start));
            }
            (Purpose::DemoStart | Purpose::Again, Reply::Submit(submitted)) => {
                self.status = format!("{} started", submitted.run);
                self.open_run(submitted.run, None);
            }
            _ => {}
        }
    }

    fn changed(&mut self, subscription: u64, snapshot: bool, body: EventBody) {
        match body {
            EventBody::Stats(stats) => {
                self.stats = Some(stats);
                // It comes when anything has changed, at most once a second.
                self.ask_listing();
            }
            EventBody::Runs(runs) => self.runs_changed(snapshot, runs),
            EventBody::Run { run, steps } => {
                if self.screen != Screen::Run(run.id) {
                    return;
                }
                self.looked.run = Some(run);
                if snapshot {
                    self.looked.steps.clear();
                }
                self.looked.steps.extend(steps.into_iter().map(|step| (step.id, step)));
                self.rebuild_rows();
                if snapshot {
                    self.show_selected();
                }
                self.follow_log(false);
            }
            EventBody::Log(log) => {
                if self.subscriptions.get(&subscription) != Some(&Purpose::Log) {
                    return;
                }
                if self.looked.log_of != Some(log.execution) || snapshot {
                    self.looked.log.clear();
                    self.looked.log_back = 0;
                }
                self.looked.log_of = Some(log.execution);
                self.looked.log_dropped = self.looked.log_dropped.max(log.dropped);
                if self.looked.log_back > 0 {
                    self.looked.log_back += log.lines.len();
                }
                self.looked.log.extend(log.lines);
                let over = self.looked.log.len().saturating_sub(LOG_LINES_MAX);
                self.looked.log.drain(..over);
                self.looked.log_dropped += over as u64;
            }
        }
    }

    fn runs_changed(&mut self, snapshot: bool, runs: Vec<ibid::protocol::RunView>) {
        let asked = self.asked.values().any(|purpose| *purpose == Purpose::SensorsAgain);
        if matches!(self.overlay, Some(Overlay::Sensors(_))) && !asked {
            self.ask(Purpose::SensorsAgain, Request::Sensors(ListSensors { scope: None }));
        }
        let before = self.listed_runs().first().map(|run| run.id);
        let place = self.selected_run.and_then(|id| self.listed_runs().iter().position(|run| run.id == id));
        if snapshot {
            self.runs.clear();
        }
        self.runs_known = true;
        self.runs.extend(runs.into_iter().map(|run| (run.id, run)));
        while self.runs.len() > RUNS_MAX {
            self.runs.pop_first();
        }
        let listed: Vec<RunId> = self.listed_runs().iter().map(|run| run.id).collect();
        let at = self.selected_run.and_then(|id| listed.iter().position(|listed| *listed == id));
        match (self.at_top, at, place) {
            (false, Some(at), Some(place)) => {
                // The list does not move under the cursor: what is new waits above.
                self.runs_offset = (self.runs_offset + at).saturating_sub(place);
                let newer = before.map_or(0, |before| listed.iter().take_while(|id| **id > before).count());
                self.new_above += newer;
            }
            (false, Some(_), None) => {}
            _ => {
                self.selected_run = listed.first().copied();
                self.runs_offset = 0;
                self.new_above = 0;
            }
        }
    }

    /// Follows the log of whatever does the work for the selected step; the daemon finds out who that is.
    fn follow_log(&mut self, again: bool) {
        if !matches!(self.screen, Screen::Run(_)) {
            return;
        }
        let Some(step) = self.selected_step() else { return };
        let wanted = step.id;
        let shown = self.subscriptions.values().any(|purpose| *purpose == Purpose::Log)
            || self.asked.values().any(|purpose| *purpose == Purpose::Log);
        if self.log_wanted == Some(wanted) && shown && !again {
            return;
        }
        self.end_subscriptions(Purpose::Log);
        self.looked.log.clear();
        self.looked.log_dropped = 0;
        self.looked.log_back = 0;
        self.looked.log_of = None;
        self.log_wanted = Some(wanted);
        if self.link == Link::Connected {
            let topic = Topic::Log { id: Id::Step(wanted) };
            self.ask(Purpose::Log, Request::Subscribe(Subscribe { topic }));
        }
    }

    fn end_subscriptions(&mut self, purpose: Purpose) {
        let numbers: Vec<u64> =
            self.subscriptions.iter().filter(|(_, other)| **other == purpose).map(|(number, _)| *number).collect();
        for subscription in numbers {
            self.subscriptions.remove(&subscription);
            if self.link == Link::Connected {
                self.ask(Purpose::Unsubscribe, Request::Unsubscribe(Unsubscribe { subscription }));
            }
        }
    }

    pub(super) fn push_here(&mut self) {
        self.back.push(self.here());
    }

    /// Ends what only the screen of a run needs.
    pub(super) fn leave_run(&mut self) {
        self.end_subscriptions(Purpose::Run);
        self.end_subscriptions(Purpose::Log);
        self.filter.clear();
    }

    fn here(&self) -> Place {
        Place { screen: self.screen, run: self.selected_run, step: self.looked.selected }
    }

    /// Opens a run, with a step selected.
    pub fn open_run(&mut self, run: RunId, step: Option<StepId>) {
        self.back.push(self.here());
        self.show_run(run, step);
    }

    fn show_run(&mut self, run: RunId, step: Option<StepId>) {
        self.filter.clear();
        self.overlay = None;
        if self.screen == Screen::Run(run) {
            if let Some(step) = step {
                self.looked.select(Some((step, false)));
            }
            self.reveal_selected();
            self.show_selected();
            self.follow_log(false);
            return;
        }
        self.end_subscriptions(Purpose::Run);
        self.end_subscriptions(Purpose::Log);
        self.log_wanted = None;
        self.screen = Screen::Run(run);
        self.last_run = Some(run);
        self.looked = Looked { selected: step.or(Some(run.root())), ..Looked::default() };
        self.pane = Pane::Tree;
        self.ask(Purpose::Run, Request::Subscribe(Subscribe { topic: Topic::Run { run } }));
    }

    fn show_runs(&mut self) {
        self.leave_run();
        self.screen = Screen::Runs;
        if let Some(run) = self.last_run.filter(|run| self.runs.contains_key(run)) {
            self.selected_run = Some(run);
            self.at_top = self.listed_runs().first().is_some_and(|first| first.id == run);
        }
        self.show_selected();
    }

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
        match actions::find(&keys, matches!(self.screen, Screen::Run(_))) {
            Match::Action(action) => {
                self.status.clear();
                self.act(action);
            }
            Match::Partial => self.chord = keys,
            Match::None => {}
        }
    }

    fn type_filter(&mut self, key: &str) {
        match key {
            "enter" => self.typing = false,
            "esc" => {
                self.typing = false;
                self.filter.clear();
            }
            "backspace" => {
                self.filter.pop();
            }
            "space" => self.filter.push(' '),
            key if key.chars().count() == 1 => self.filter.push_str(key),
            _ => {}
        }
        self.keep_selection_listed();
    }

    fn keep_selection_listed(&mut self) {
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

    /// Says whether the overlay has taken the key.
    fn press_overlay(&mut self, key: &str) -> bool {
        let Some(overlay) = self.overlay.take() else { return false };
        match (overlay, key) {
            (_, "^c") => {
                self.quit = true;
            }
            (_, "^z") => self.suspend = true,
            (Overlay::Sensors(board), key) if board.typing.is_some() || !matches!(key, "esc" | "q" | "S") => {
                self.press_board(board, key);
            }
            (Overlay::Palette { typed, selected }, key) if key != "esc" => self.press_palette(typed, selected, key),
            (_, "esc" | "q") => {}
            (Overlay::Sensors(_), "S") => {}
            (Overlay::Help { scroll }, "j" | "down") => {
                self.overlay = Some(Overlay::Help { scroll: scroll.saturating_add(1) })
            }
            (Overlay::Help { scroll }, "k" | "up") => {
                self.overlay = Some(Overlay::Help { scroll: scroll.saturating_sub(1) })
            }
            (Overlay::Explain { explanation, scroll }, "j" | "down") => {
                self.overlay = Some(Overlay::Explain { explanation, scroll: scroll.saturating_add(1) });
            }
            (Overlay::Explain { explanation, scroll }, "k" | "up") => {
                self.overlay = Some(Overlay::Explain { explanation, scroll: scroll.saturating_sub(1) });
            }
            (Overlay::Explain { .. }, "e") | (Overlay::Help { .. }, "?") => {}
            (Overlay::Rerun { step }, "f") => self.ask(Purpose::Rerun, Request::Rerun(Rerun { id: Id::Step(step) })),
            (Overlay::Rerun { step }, "n") => self.start_again(step.run),
            (Overlay::Cancel { id, .. }, "m") => {
                self.ask(Purpose::Cancel, Request::Cancel(Cancel { id, force: false }))
            }
            (Overlay::Cancel { id, .. }, "a") => self.ask(Purpose::Cancel, Request::Cancel(Cancel { id, force: true })),
            (Overlay::Choose { title, ids, selected }, "j" | "down") => {
                let selected = (selected + 1).min(ids.len().saturating_sub(1));
                self.overlay = Some(Overlay::Choose { title, ids, selected });
            }
            (Overlay::Choose { title, ids, selected }, "k" | "up") => {
                self.overlay = Some(Overlay::Choose { title, ids, selected: selected.saturating_sub(1) });
            }
            (Overlay::Choose { ids, selected, .. }, "enter") => {
                if let Some(id) = ids.get(selected) {
                    self.open_run(id.step.run, Some(id.step));
                }
            }
            (other, _) => {
                self.overlay = Some(other);
            }
        }
        true
    }

    pub(super) fn act(&mut self, action: Action) {
        let half = isize::try_from(self.page() / 2).unwrap_or(1).max(1);
        match action {
            Action::Down => self.move_by(1),
            Action::Up => self.move_by(-1),
            Action::HalfPageDown => self.move_by(half),
            Action::HalfPageUp => self.move_by(-half),
            Action::Top => self.move_by(isize::MIN / 2),
            Action::Bottom => self.move_by(isize::MAX / 2),
            Action::Fold => self.fold(true),
            Action::Unfold => self.fold(false),
            Action::Open => self.open_selected(),
            Action::Close => {
                self.filter.clear();
                self.keep_selection_listed();
            }
            Action::Back => match self.screen {
                Screen::Runs => self.quit = true,
                Screen::Run(_) => self.show_runs(),
                Screen::List(_) => {
                    if !self.leave_namespace() {
                        self.show_runs();
                    }
                }
            },
            Action::Quit => self.quit = true,
            Action::Suspend => self.suspend = true,
            Action::Pane => {
                self.pane = match self.pane {
                    Pane::Tree => Pane::Inspector,
                    Pane::Inspector => Pane::Log,
                    Pane::Log => Pane::Tree,
                };
            }
            Action::ScreenRuns => {
                if self.screen != Screen::Runs {
                    self.back.push(self.here());
                    self.show_runs();
                }
            }
            Action::ScreenRun => match (self.screen, self.last_run.or(self.selected_run)) {
                (Screen::Run(_), _) => {}
                (_, Some(run)) => self.open_run(run, None),
                (_, None) => self.status = "no run to look at yet".to_owned(),
            },
            Action::ScreenQueue => self.show_listing(Listing::Queue),
            Action::ScreenCache => self.show_listing(Listing::Cache),
            Action::ScreenWorkers => self.show_listing(Listing::Workers),
            Action::ScreenDaemon => self.show_listing(Listing::Daemon),
            Action::WhereIWas => match self.back.pop() {
                Some(Place { screen: Screen::Run(run), step, .. }) => self.show_run(run, step),
                Some(Place { screen: Screen::List(listing), .. }) => {
                    self.show_listing(listing);
                    // Going back is not going on.
                    self.back.pop();
                }
                Some(Place { screen: Screen::Runs, run, .. }) => {
                    self.show_runs();
                    self.selected_run = run.or(self.selected_run);
                    self.show_selected();
                }
                None => self.status = "there is nowhere to go back to".to_owned(),
            },
            Action::Filter => self.typing = true,
            Action::NextFailure => self.go_to_failure(true),
            Action::PreviousFailure => self.go_to_failure(false),
            Action::GoSource => match self.selected_step().and_then(tree::source) {
                Some(Id::Execution(execution)) => self.open_run(execution.step.run, Some(execution.step)),
                Some(Id::Run(run)) => self.open_run(run, None),
                _ => self.status = "this is its own work: there is no source to go to".to_owned(),
            },
            Action::GoWaiters => {
                if let Some(step) = self.looked.selected.filter(|_| !self.looked.on_group) {
                    self.ask(Purpose::Waiters, Request::Show(Show { id: Id::Step(step) }));
                }
            }
            Action::GoCaller => self.go_to_caller(),
            Action::Explain => {
                if let Some(id) = self.selected_id() {
                    self.ask(Purpose::Why, Request::Why(Why { id }));
                }
            }
            Action::Rerun => {
                if let Some(id) = self.selected_id() {
                    self.overlay = Some(Overlay::Rerun { step: id.step() });
                }
            }
            Action::Cancel => self.cancel_selected(),
            Action::Sensors => self.ask_sensors(),
            Action::Palette => self.overlay = Some(Overlay::Palette { typed: String::new(), selected: 0 }),
            Action::CopyId | Action::CopyKey | Action::CopyArguments | Action::CopyResult | Action::CopyCommand => {
                self.copy(action)
            }
            Action::Help => self.overlay = Some(Overlay::Help { scroll: 0 }),
        }
    }

    pub(super) fn selected_id(&mut self) -> Option<Id> {
        match self.screen {
            Screen::Runs => self.selected_run.map(Id::Run),
            Screen::List(_) => self.listed_id(),
            Screen::Run(_) if self.looked.on_group => {
                self.status = "this is a group: l unfolds it, then select one of its calls".to_owned();
                None
            }
            Screen::Run(_) => self.looked.selected.map(Id::Step),
        }
    }

    fn go_to_caller(&mut self) {
        let Some(step) = self.selected_step() else { return };
        let caller = step.caller.map(|caller| caller.step);
        let of_run = self.looked.run.as_ref().and_then(|run| run.caller);
        match caller.or(of_run.filter(|_| step.id.step == 1)) {
            Some(caller) => self.open_run(caller.run, Some(caller)),
            None => self.status = "it was started by hand: there is no caller".to_owned(),
        }
    }

    fn cancel_selected(&mut self) {
        let Some(id) = self.selected_id() else { return };
        let others = match self.screen {
            Screen::Runs | Screen::List(_) => 0,
            Screen::Run(_) => {
                self.selected_step().and_then(|step| step.newest()).map_or(0, |attempt| attempt.followers.len())
            }
        };
        if others > 0 {
            self.overlay = Some(Overlay::Cancel { id, others });
        } else {
            self.ask(Purpose::Cancel, Request::Cancel(Cancel { id, force: false }));
        }
    }

    fn start_again(&mut self, run: RunId) {
        let view = self.looked.run.as_ref().filter(|view| view.id == run).or_else(|| self.runs.get(&run));
        let root = self.looked.steps.get(&run.root());
        let (Some(view), Some(root)) = (view.cloned(), root) else {
            self.status = "open the run first: its arguments are not loaded".to_owned();
            return;
        };
        let values: Option<Vec<_>> = root.arguments.iter().map(|argument| argument.value.value.clone()).collect();
        let Some(arguments) = values else {
            self.status = "its arguments are too large to send again from here".to_owned();
            return;
        };
        let scope = Scope { project: view.project, environment: view.environment };
        let submit = Submit { arguments, ..Submit::new(scope, view.target) };
        self.ask(Purpose::Again, Request::Submit(submit));
    }

    fn fold(&mut self, fold: bool) {
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

    fn open_selected(&mut self) {
        match self.screen {
            Screen::Runs => match self.selected_run {
                Some(run) => self.open_run(run, None),
                None if self.runs_known && self.runs.is_empty() => self.start_demo(),
                None => {}
            },
            Screen::List(_) => self.open_listed(),
            Screen::Run(_) if self.looked.on_group => {
                let unfolded = self.looked.selected.is_some_and(|first| self.looked.folds.groups.contains(&first));
                self.fold(unfolded);
            }
            Screen::Run(_) => {
                let Some(step) = self.selected_step() else { return };
                let run = step.newest().and_then(|attempt| attempt.run);
                let (id, folded) = (step.id, self.looked.folds.steps.contains(&step.id));
                match run {
                    Some(run) => self.open_run(run, None),
                    None if folded => self.fold(false),
                    None => {
                        let leaf = self.looked.rows.iter().any(|row| row.key() == (id, false) && !row.has_children);
                        if leaf {
                            self.pane = Pane::Inspector;
                        } else {
                            self.fold(true);
                        }
                    }
                }
            }
        }
    }

    fn start_demo(&mut self) {
        let Some(interpreter) = self.interpreter.clone() else {
            self.status = "no Python interpreter was found: the demo needs python3 on the path".to_owned();
            return;
        };
        self.status = "registering the demo…".to_owned();
        let register = Register {
            scope: Scope { project: "demo".to_owned(), environment: "default".to_owned() },
            modules: vec!["ibid.demo".to_owned()],
            directory: self.data.display().to_string(),
            interpreter: interpreter.display().to_string(),
            variables: self.variables.clone(),
            concurrency: None,
            fork: true,
        };
        self.ask(Purpose::DemoRegister, Request::Register(register));
    }

    fn move_by(&mut self, by: isize) {
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

    fn go_to_failure(&mut self, forward: bool) {
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

/// The executions that the log pane is about, for its title.
pub fn log_title(model: &Model) -> String {
    let selected = model.looked.selected;
    let of: Option<ExecutionId> = model.looked.log_of;
    match (of, selected) {
        (Some(of), Some(selected)) if of.step != selected => {
            format!("log of {of}, the execution doing the work for {selected}")
        }
        (Some(of), _) => format!("log of {of}"),
        (None, Some(selected)) => format!("log of {selected}"),
        (None, None) => "log".to_owned(),
    }
}
