//! What the daemon is asked, and how the model changes by what it says.

use ibid::model::{Id, StepId};
use ibid::protocol::{
    Anchor, Event, EventBody, Head, List, ListSensors, ListWorkers, Notice, Outgoing, Refused, Reply, Request, Row,
    Scope, Show, Submit, Subscribe, Topic, Unsubscribe, Why,
};

use super::form::Form;
use super::model::{Link, Model, Overlay, Purpose, Screen, Tab, Undo, Which};
use super::sensors::SensorBoard;
use super::window::{Coming, Goal, Taken, Window};

impl Model {
    /// Asks, and says by which number; nothing is asked, and nothing kept for later, while disconnected.
    pub(super) fn ask(&mut self, purpose: Purpose, request: Request) -> Option<u64> {
        if self.link != Link::Connected {
            self.status = "not connected to the daemon, so nothing can be asked of it now".to_owned();
            return None;
        }
        let number = self.next_request;
        self.next_request += 1;
        self.asked.insert(number, purpose);
        self.outgoing.push((number, request));
        Some(number)
    }

    pub(super) fn is_asked(&self, wanted: Purpose) -> bool {
        self.asked.values().any(|purpose| *purpose == wanted)
    }

    /// Asks for the rows around an anchor.
    pub(super) fn want(&mut self, which: Which, anchor: Anchor, goal: Goal) {
        let Some(get) = self.window(which).request(anchor) else { return };
        if self.link != Link::Connected {
            return;
        }
        let request = self.ask(Purpose::Rows(which), Request::Subscribe(Subscribe { topic: Topic::Rows(get) }));
        // Whatever was asked before for this window is not wanted any more.
        let before = self.window_mut(which).coming.take().and_then(|coming| coming.subscription);
        self.end_subscription(before);
        self.window_mut(which).coming = request.map(|request| Coming { request, subscription: None, goal });
    }

    /// Looks through a window at another list.
    pub(super) fn open_window(&mut self, which: Which, mut window: Window, anchor: Anchor) {
        if let Some((sort, reverse)) = window.list.as_ref().and_then(|list| self.remembered.sorts.get(kind(list))) {
            window.sort = Some(sort.clone());
            window.reverse = *reverse;
        }
        self.close_window(which);
        *self.window_mut(which) = window;
        self.want(which, anchor, Goal::Take);
    }

    pub(super) fn close_window(&mut self, which: Which) {
        let old = std::mem::take(self.window_mut(which));
        self.end_subscription(old.subscription);
        self.end_subscription(old.coming.and_then(|coming| coming.subscription));
    }

    fn end_subscription(&mut self, number: Option<u64>) {
        let Some(subscription) = number.filter(|number| self.subscriptions.remove(number).is_some()) else { return };
        if self.link == Link::Connected {
            self.ask(Purpose::Unsubscribe, Request::Unsubscribe(Unsubscribe { subscription }));
        }
    }

    /// A connection is there: everything shown is subscribed to again.
    pub fn connected(&mut self) {
        self.link = Link::Connected;
        self.status.clear();
        self.asked.clear();
        self.subscriptions.clear();
        self.ask(Purpose::Stats, Request::Subscribe(Subscribe { topic: Topic::Stats }));
        for which in [Which::Main, Which::Log, Which::Key] {
            let window = self.window_mut(which);
            window.subscription = None;
            window.coming = None;
            let (anchor, known) = (window.anchor(), window.known);
            self.want(which, anchor, if known { Goal::Keep } else { Goal::Take });
        }
        if self.screen == Screen::Workers {
            self.ask_workers();
        }
    }

    /// The connection is gone; what is loaded stays.
    pub fn disconnected(&mut self, why: String) {
        if !matches!(self.link, Link::Lost(..)) {
            self.link = Link::Lost(self.clock, why);
        }
        let never = self.stats.is_none();
        self.status = if never { "no daemon answers: " } else { "the daemon is gone, this is how it was: " }.to_owned();
        self.status.push_str("'ibid daemon start' starts it");
        self.outgoing.clear();
        self.changing.clear();
        for which in [Which::Main, Which::Log, Which::Key] {
            self.window_mut(which).wanted = None;
        }
    }

    pub(super) fn ask_workers(&mut self) {
        self.ask(Purpose::Workers, Request::Workers(ListWorkers {}));
    }

    /// Something came from the daemon.
    pub fn hear(&mut self, message: Outgoing) {
        match message {
            Outgoing::Reply(number, reply) => {
                let Some(purpose) = self.asked.remove(&number) else { return };
                match (purpose, reply) {
                    (Purpose::Rows(which), Ok(Reply::Subscribe(subscribed))) => {
                        self.subscriptions.insert(subscribed.subscription, purpose);
                        let coming = self.window_mut(which).coming.as_mut();
                        match coming.filter(|coming| coming.request == number) {
                            Some(coming) => coming.subscription = Some(subscribed.subscription),
                            // The user has moved on since it was asked for.
                            None => self.end_subscription(Some(subscribed.subscription)),
                        }
                    }
                    (Purpose::Rows(which), Err(refused)) => {
                        // What became of a request that is not wanted any more makes no difference.
                        if self.window(which).coming.as_ref().is_some_and(|coming| coming.request == number) {
                            self.window_refused(which, &refused);
                        }
                    }
                    (_, Ok(Reply::CacheForget(changed) | Reply::CachePin(changed) | Reply::CacheUnpin(changed))) => {
                        self.urgent = true;
                        let undo = self.changing.remove(&number);
                        self.key_changed(purpose, &changed, undo);
                    }
                    (_, Ok(reply)) => {
                        self.urgent |= !matches!(reply, Reply::Subscribe(_) | Reply::Unsubscribe(_));
                        self.answered(purpose, reply);
                    }
                    (_, Err(refused)) => {
                        self.urgent = true;
                        self.changing.remove(&number);
                        self.refused(purpose, &refused);
                    }
                }
            }
            Outgoing::Notice(Notice::Event(event)) => self.changed(event),
            Outgoing::Notice(Notice::Order(_)) => {}
        }
    }

    fn window_refused(&mut self, which: Which, refused: &Refused) {
        let window = self.window_mut(which);
        window.coming = None;
        let again = std::mem::take(&mut window.again);
        window.wrong = refused.message.lines().next().unwrap_or_default().to_owned();
        window.wanted = None;
        if again {
            self.want(which, Anchor::First, Goal::Take);
            return;
        }
        if which == Which::Main {
            self.status.clone_from(&self.main.wrong);
            if self.on_run() && refused.kind == "not_found" {
                self.show_runs();
            }
        }
    }

    fn refused(&mut self, purpose: Purpose, refused: &Refused) {
        let message = refused.message.lines().next().unwrap_or_default().to_owned();
        match (&mut self.overlay, purpose) {
            (Some(Overlay::Start(form)), Purpose::Check | Purpose::Start | Purpose::Targets) => form.wrong = message,
            _ => self.status = message,
        }
    }

    fn answered(&mut self, purpose: Purpose, reply: Reply) {
        match (purpose, reply) {
            (_, Reply::Subscribe(subscribed)) => {
                self.subscriptions.insert(subscribed.subscription, purpose);
            }
            (Purpose::Nearest, Reply::Why(explanation)) => self.compare_with_nearest(&explanation),
            (_, Reply::Why(explanation)) => {
                self.overlay = Some(Overlay::Explain { explanation: Box::new(explanation), scroll: 0 });
            }
            (_, Reply::Compare(comparison)) => {
                let comparison = Box::new(comparison);
                self.overlay = Some(Overlay::Compare { comparison, scroll: 0, all: false });
            }
            (_, Reply::Predict(prediction)) => {
                if let Some(Overlay::Rerun { predicted, .. }) = &mut self.overlay {
                    *predicted = Some(prediction);
                }
            }
            (_, Reply::Rerun(rerunning)) => self.status = format!("{} runs again", rerunning.execution),
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
            (_, Reply::Workers(list)) => {
                self.workers = list.workers;
                self.workers_known = true;
            }
            (Purpose::Parameters, Reply::Targets(list)) => self.start_with(&list.targets),
            (_, Reply::Targets(list)) => self.overlay = Some(Overlay::Start(Box::new(Form::choosing(list.targets)))),
            (_, Reply::Environments(list)) => {
                let selected = self.shown_scope.as_ref().and_then(|scope| {
                    let is = |env: &ibid::protocol::EnvironmentView| {
                        env.project == scope.project && env.environment == scope.environment
                    };
                    list.environments.iter().position(is).map(|at| at + 1)
                });
                let environments = list.environments;
                self.overlay = Some(Overlay::Environments { environments, selected: selected.unwrap_or(0) });
            }
            (_, Reply::Explain(explained)) => {
                if let Some(Overlay::Start(form)) = &mut self.overlay {
                    form.explained(&explained);
                }
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
            (Purpose::Graph, Reply::Show(shown)) if self.looked_at == Some(shown.step.id) => {
                self.graph = Some(Box::new(shown));
            }
            (purpose @ (Purpose::Root | Purpose::RootToEdit), Reply::Show(shown)) => {
                self.ask_parameters(shown, purpose == Purpose::RootToEdit);
            }
            (Purpose::CancelCheck, Reply::Show(shown)) => self.cancel_or_ask(&shown),
            (Purpose::DemoRegister, Reply::Register(_)) => {
                let scope = Scope { project: "demo".to_owned(), environment: "default".to_owned() };
                self.ask(Purpose::Start, Request::Submit(Submit::new(scope, "ibid.demo/tour")));
            }
            (_, Reply::Submit(submitted)) => {
                self.overlay = None;
                self.open_run(submitted.run, None);
                self.status = format!("{} started", submitted.run);
            }
            _ => {}
        }
    }

    fn changed(&mut self, event: Event) {
        let Some(purpose) = self.subscriptions.get(&event.subscription).copied() else { return };
        match (purpose, event.body) {
            (_, EventBody::Stats(stats)) => {
                self.stats = Some(stats);
                // It comes when anything has changed, at most once a second.
                if self.screen == Screen::Workers && !self.is_asked(Purpose::Workers) {
                    self.ask_workers();
                }
                if matches!(self.overlay, Some(Overlay::Sensors(_))) && !self.is_asked(Purpose::SensorsAgain) {
                    self.ask(Purpose::SensorsAgain, Request::Sensors(ListSensors { scope: None }));
                }
                if self.tab == Tab::Graph {
                    self.ask_graph();
                }
            }
            (Purpose::Rows(which), EventBody::Rows(rows)) => {
                let before = self.window(which).subscription.filter(|before| *before != event.subscription);
                let adopts = self.window(which).coming.as_ref().and_then(|coming| coming.subscription)
                    == Some(event.subscription);
                if !adopts && self.window(which).subscription != Some(event.subscription) {
                    return;
                }
                match self.window_mut(which).take(event.subscription, *rows) {
                    Taken::NotFound => {
                        self.urgent = true;
                        self.window_mut(which).coming = None;
                        self.end_subscription(Some(event.subscription));
                        self.not_found(which);
                    }
                    Taken::Held => {}
                    Taken::Elsewhere => {
                        if self.window(which).coming.is_none() {
                            let anchor = self.window(which).anchor();
                            self.want(which, anchor, Goal::Keep);
                        }
                    }
                    Taken::Shown => {
                        if adopts {
                            self.urgent = true;
                            self.end_subscription(before);
                            if let (Which::Main, Head::Run { folds, .. }) = (which, &self.main.head) {
                                self.folds = folds.clone();
                            }
                        }
                        self.shown(which);
                        if adopts && std::mem::take(&mut self.window_mut(which).again) {
                            self.want(which, Anchor::First, Goal::Take);
                        }
                    }
                }
            }
            (Purpose::Rows(which), EventBody::Refused(refused)) => {
                self.subscriptions.remove(&event.subscription);
                let window = self.window_mut(which);
                let coming = window.coming.as_ref().and_then(|coming| coming.subscription) == Some(event.subscription);
                if window.subscription == Some(event.subscription) {
                    window.subscription = None;
                }
                if coming || self.window(which).subscription.is_none() {
                    self.window_refused(which, &refused);
                }
            }
            _ => {}
        }
    }

    fn not_found(&mut self, which: Which) {
        let search = if which == Which::Log { &self.log_search } else { &self.search };
        self.status = if search.is_empty() {
            "no further failure here".to_owned()
        } else {
            format!("no further '{search}' here")
        };
    }

    /// Rows are shown: what hangs on them follows.
    fn shown(&mut self, which: Which) {
        if which != Which::Main {
            self.show_selected(which);
            return;
        }
        if let Head::Run { run, .. } = &self.main.head {
            self.last_run = Some(run.id);
        }
        self.show_selected(Which::Main);
        self.look_at_selected();
    }

    /// Shows the log of the selected step; the daemon finds out who does its work. In the same way its key
    /// and what it hangs together with, where those are on the screen.
    pub(super) fn look_at_selected(&mut self) {
        if !self.on_run() {
            return;
        }
        let step = match self.main.selected_row() {
            Some(Row::Step(row)) => Some(row.step.id),
            Some(Row::Group(_)) => None,
            // It is on its way.
            _ => return,
        };
        if self.looked_at != step {
            self.looked_at = step;
            self.graph = None;
            self.graph_selected = 0;
            self.log_search.clear();
            self.close_window(Which::Log);
            self.close_window(Which::Key);
        }
        let Some(step) = step else { return };
        if self.log.list.is_none() && self.link == Link::Connected {
            let window = Window { at_end: true, ..Window::over(List::Log { id: Id::Step(step) }) };
            self.open_window(Which::Log, window, Anchor::Last);
        }
        if self.tab == Tab::Key && self.key.list.is_none() && self.link == Link::Connected {
            let has_key = self.selected_step().is_some_and(|step| step.key.is_some());
            if has_key {
                let list = List::Key { scope: self.scope_shown(), key: step.to_string() };
                self.open_window(Which::Key, Window::over(list), Anchor::First);
            }
        }
        if self.tab == Tab::Graph && self.graph.is_none() {
            self.ask_graph();
        }
    }

    fn ask_graph(&mut self) {
        if let Some(step) = self.looked_at.filter(|_| !self.is_asked(Purpose::Graph) && self.link == Link::Connected) {
            self.ask(Purpose::Graph, Request::Show(Show { id: Id::Step(step) }));
        }
    }

    pub(super) fn ask_why(&mut self, purpose: Purpose, id: Id) {
        self.ask(purpose, Request::Why(Why { id }));
    }

    /// What was changed can be undone.
    fn key_changed(&mut self, purpose: Purpose, changed: &ibid::protocol::CacheChanged, undo: Option<Undo>) {
        let key: String = changed.key.chars().take(8).collect();
        if purpose == Purpose::PutBack {
            self.status = match changed.changed {
                0 => format!("k:{key}: there was nothing to put back"),
                count => format!("k:{key}: {count} put back"),
            };
            return;
        }
        self.status = match (purpose, changed.changed) {
            (Purpose::Forget, 0) => format!("k:{key} has no result that could be forgotten"),
            (Purpose::Forget, _) => format!("k:{key} is forgotten: the next call runs. z puts it back"),
            (Purpose::Pin, 0) => format!("k:{key} was pinned already"),
            (Purpose::Pin, _) => format!("k:{key} is pinned: pruning leaves it. z unpins it"),
            (_, 0) => format!("k:{key} was not pinned"),
            (..) => format!("k:{key} is unpinned. z pins it again"),
        };
        if changed.changed > 0 {
            self.undo.extend(undo);
        }
    }

    /// Undoes what was done last.
    pub(super) fn undo_last(&mut self) {
        use ibid::protocol::{CacheForget, CachePin, CacheUnpin};
        if !self.main.filter.is_empty() {
            self.clear_filter();
            return;
        }
        match self.undo.pop() {
            Some(Undo::Filter(screen, filter)) if screen == self.screen => {
                self.status = format!("filter: {filter}");
                self.filter_by(filter);
            }
            Some(Undo::Filter(..)) => self.undo_last(),
            Some(Undo::Forget(scope, key)) => {
                self.ask(Purpose::PutBack, Request::CacheForget(CacheForget { scope, key, undo: true }));
            }
            Some(Undo::Pin(scope, key)) => {
                self.ask(Purpose::Unpin, Request::CacheUnpin(CacheUnpin { scope, key }));
            }
            Some(Undo::Unpin(scope, key)) => {
                self.ask(Purpose::Pin, Request::CachePin(CachePin { scope, key }));
            }
            None => self.status = "there is nothing to undo".to_owned(),
        }
    }
}

/// What a list is called where its order is remembered.
pub(super) const fn kind(list: &List) -> &'static str {
    match list {
        List::Runs { .. } => "runs",
        List::Steps { .. } => "steps",
        List::Queue {} => "queue",
        List::Namespaces { .. } => "namespaces",
        List::Keys { .. } => "keys",
        List::Key { .. } => "key",
        List::Log { .. } => "log",
    }
}
