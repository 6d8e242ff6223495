//! Snapshots and then changes: for each client a set of what is dirty, not a queue.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::rc::Rc;
use std::time::Duration;

use ibid::model::{ExecutionId, Id, RunId, StepId};
use ibid::protocol::{
    Anchor, Event, EventBody, GetRows, List, ListRuns, ListSteps, LogLines, Notice, Outgoing, Refused, Reply, Request,
    Row, Rows, RunView, StepView, Subscribe, Subscribed, Topic,
};

use super::lists::unpack;
use super::{Owner, State, unasked, views};
use crate::engine::Changes;
use crate::server::{SessionId, Ticket};
use crate::store::LogChunk;

/// Between two events of a subscription.
const INTERVAL: Duration = Duration::from_millis(40);

/// The same for the daemon's figures.
const STATS_INTERVAL: Duration = Duration::from_millis(940);

/// While more than this waits to be sent to a client, it gets no further events, bytes.
const OUTBOX_WHILE_BELOW: usize = 256 * 1024;

/// Changes in one event; the rest comes with the next.
const CHANGES_PER_EVENT: usize = 500;

/// With more than this dirty, a snapshot is cheaper than a list of changes.
const DIRTY_MAX: usize = 20_000;

/// How many steps a snapshot of a run holds.
const SNAPSHOT_STEPS: u32 = 5000;

/// What the turn that is being committed has changed.
#[derive(Default)]
pub(super) struct Touched {
    runs: BTreeSet<RunId>,
    steps: BTreeSet<StepId>,
    logs: BTreeSet<ExecutionId>,
    /// Whether what can be taken has changed.
    entries: bool,
}

impl Touched {
    pub(super) fn note(&mut self, changes: &Changes, logs: &[LogChunk]) {
        for step in changes.live.iter().chain(&changes.finished) {
            self.steps.insert(step.id);
            self.runs.insert(step.id.run);
        }
        self.runs.extend(changes.active.iter().chain(&changes.quiet).map(|run| run.id));
        self.entries |= !changes.entries.is_empty();
        self.logs.extend(logs.iter().map(|chunk| chunk.execution));
    }
}

impl Touched {
    fn touches(&self, run: RunId) -> bool {
        let first = StepId { run, step: 0 };
        self.steps.range(first..=StepId { run, step: u32::MAX }).next().is_some()
    }
}

pub(super) struct Subscription {
    topic: Topic,
    /// The execution whose log is followed, as far as it is known.
    log: Option<(ExecutionId, u32)>,
    runs: BTreeSet<RunId>,
    steps: BTreeSet<StepId>,
    /// The rows that were sent last, by key, with a hash of each; and a hash of what stands around them.
    sent: HashMap<String, u64>,
    around: u64,
    /// Something not listed above has changed.
    dirty: bool,
    /// The next event replaces everything sent before.
    snapshot: bool,
    /// A task is at work that will send what is dirty.
    sending: bool,
}

impl Owner {
    pub(super) fn subscribe(&self, state: &mut State, ticket: &Ticket, subscribe: Subscribe) -> Result<Reply, Refused> {
        match &subscribe.topic {
            Topic::Run { run } => self.known(state, Id::Run(*run))?,
            Topic::Log { id } => self.known(state, *id)?,
            Topic::Rows(get) => drop(super::windows::Filter::parse(&get.filter, super::now())?),
            Topic::Runs { .. } | Topic::Stats => {}
        }
        let Some(session) = state.sessions.get_mut(&ticket.session) else {
            return Err(Refused::new("internal", "the connection is gone"));
        };
        if session.subscriptions.len() >= 64 {
            return Err(Refused::new("too_many", "a connection can have 64 subscriptions; end one first"));
        }
        let number = session.next_subscription;
        session.next_subscription += 1;
        let subscription = Subscription {
            topic: subscribe.topic,
            log: None,
            runs: BTreeSet::new(),
            steps: BTreeSet::new(),
            sent: HashMap::new(),
            around: 0,
            dirty: true,
            snapshot: true,
            sending: true,
        };
        session.subscriptions.insert(number, subscription);
        self.send_changes(ticket.session, number);
        Ok(Reply::Subscribe(Subscribed { subscription: number }))
    }

    /// A turn was committed: whoever follows what it changed will be told.
    pub(super) fn mark_subscriptions(&self, state: &mut State) {
        let touched = std::mem::take(&mut state.touched);
        state.windows.note(&touched.runs, &touched.steps);
        for (session_id, session) in &mut state.sessions {
            for (number, subscription) in &mut session.subscriptions {
                subscription.mark(&touched);
                if subscription.is_dirty() && !subscription.sending {
                    subscription.sending = true;
                    self.send_changes(*session_id, *number);
                }
            }
        }
    }

    /// A step is to be shown anew though nothing of it was stored.
    pub(super) fn mark_progress(&self, state: &mut State, id: StepId) {
        for (session_id, session) in &mut state.sessions {
            for (number, subscription) in &mut session.subscriptions {
                let concerned = match &subscription.topic {
                    Topic::Run { run } => *run == id.run,
                    Topic::Rows(GetRows { list: List::Steps { run, .. }, .. }) => *run == id.run,
                    _ => false,
                };
                if concerned {
                    subscription.steps.insert(id);
                    if !subscription.sending {
                        subscription.sending = true;
                        self.send_changes(*session_id, *number);
                    }
                }
            }
        }
    }

    /// Sends what is dirty, as fast as the client reads and not faster than is of use.
    fn send_changes(&self, session: SessionId, number: u64) {
        let Some(own) = self.me.upgrade() else { return };
        tokio::task::spawn_local(async move {
            while let Some(wait) = own.send_event(session, number).await {
                tokio::time::sleep(wait).await;
            }
        });
    }

    /// Sends one event. Says when there may be another, if ever.
    async fn send_event(self: &Rc<Self>, session: SessionId, number: u64) -> Option<Duration> {
        let taken = {
            let mut state = self.state.borrow_mut();
            let found = state.sessions.get_mut(&session)?;
            let busy = found.outbox.len() > OUTBOX_WHILE_BELOW;
            let subscription = found.subscriptions.get_mut(&number)?;
            if busy {
                return Some(INTERVAL);
            }
            if !subscription.is_dirty() {
                subscription.sending = false;
                return None;
            }
            subscription.take()
        };
        let begun = std::time::Instant::now();
        let body = match taken.topic.clone() {
            Topic::Stats => self.stats().await.map(|stats| Some(EventBody::Stats(stats))),
            Topic::Runs { scope, limit } if taken.snapshot => {
                let list = ListRuns {
                    scope,
                    state: None,
                    target: None,
                    since: None,
                    limit: Some(limit.unwrap_or(200)),
                    cursor: None,
                };
                self.list(Request::Runs(list)).await
            }
            Topic::Runs { scope, .. } => Ok(Some(EventBody::Runs(self.changed_runs(&taken.runs, scope.as_ref())))),
            Topic::Run { run } if taken.snapshot => {
                let list = ListSteps { run, limit: Some(SNAPSHOT_STEPS), from: None };
                self.list(Request::Steps(list)).await
            }
            Topic::Run { run } => self.changed_steps(run, taken.steps).await.map(Some),
            Topic::Log { id } => self.new_lines(session, number, id).await,
            Topic::Rows(get) => match self.rows(&get).await {
                Ok(rows) => Ok(self.news_of(session, number, rows).map(|rows| EventBody::Rows(Box::new(rows)))),
                Err(refused) => Err(refused),
            },
        };
        if let Err(refused) = &body
            && matches!(taken.topic, Topic::Rows(_))
        {
            let refused = Event { subscription: number, snapshot: true, body: EventBody::Refused(refused.clone()) };
            let mut state = self.state.borrow_mut();
            state.send(&unasked(session), Outgoing::Notice(Notice::Event(refused)));
            if let Some(found) = state.sessions.get_mut(&session) {
                found.subscriptions.remove(&number);
            }
            return None;
        }
        let Ok(Some(body)) = body else { return Some(INTERVAL) };
        let event = Event { subscription: number, snapshot: taken.snapshot, body };
        self.state.borrow().send(&unasked(session), Outgoing::Notice(Notice::Event(event)));
        Some(match taken.topic {
            // Figures change with everything: once a second is enough.
            Topic::Stats => STATS_INTERVAL,
            // A list that is costly to make is made less often.
            Topic::Rows(_) => INTERVAL.max(4 * begun.elapsed()),
            _ => INTERVAL,
        })
    }

    /// What of a window has not been sent yet; nothing if it looks as it did. From now on it stays around
    /// the row that it was first found for.
    fn news_of(&self, session: SessionId, number: u64, mut rows: Rows) -> Option<Rows> {
        let mut state = self.state.borrow_mut();
        let subscription = state.sessions.get_mut(&session)?.subscriptions.get_mut(&number)?;
        let Topic::Rows(get) = &mut subscription.topic else { return None };
        if !matches!(get.anchor, Anchor::First | Anchor::Last)
            && let Some(at) = rows.at
            && let Some(row) = usize::try_from(at - rows.first).ok().and_then(|place| rows.rows.get(place))
        {
            get.anchor = Anchor::Row { key: row.key(), at };
        }
        let mut all = std::hash::DefaultHasher::new();
        let mut sent = HashMap::with_capacity(rows.rows.len());
        for row in &mut rows.rows {
            let key = row.key();
            let hash = hash_of(row);
            (&key, hash).hash(&mut all);
            if subscription.sent.get(&key) == Some(&hash) {
                *row = Row::Same(key.clone());
            }
            sent.insert(key, hash);
        }
        (rows.total, rows.all, rows.first, rows.at, hash_of(&rows.head)).hash(&mut all);
        let around = all.finish();
        let first = subscription.sent.is_empty() && subscription.around == 0;
        subscription.sent = sent;
        (std::mem::replace(&mut subscription.around, around) != around || first).then_some(rows)
    }

    async fn list(self: &Rc<Self>, request: Request) -> Result<Option<EventBody>, Refused> {
        match request {
            Request::Runs(list) => match self.list_runs(list).await? {
                Reply::Runs(list) => Ok(Some(EventBody::Runs(list.runs))),
                _ => Ok(None),
            },
            Request::Steps(list) => {
                let run = list.run;
                match self.list_steps(list).await? {
                    Reply::Steps(list) => {
                        let run = self.run_of(Id::Run(run))?;
                        let run = views::run(&self.state.borrow(), &run);
                        Ok(Some(EventBody::Run { run, steps: list.steps }))
                    }
                    _ => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    fn changed_runs(&self, ids: &BTreeSet<RunId>, scope: Option<&ibid::protocol::Scope>) -> Vec<RunView> {
        let mut state = self.state.borrow_mut();
        let runs: Vec<_> = ids.iter().filter_map(|id| state.decide(|engine, t| engine.run(t, *id))).collect();
        let views = runs.iter().map(|run| views::run(&state, run));
        views
            .filter(|view| {
                scope.is_none_or(|scope| view.project == scope.project && view.environment == scope.environment)
            })
            .collect()
    }

    async fn changed_steps(&self, run: RunId, ids: BTreeSet<StepId>) -> Result<EventBody, Refused> {
        let run = self.run_of(Id::Run(run))?;
        let steps: Vec<_> = {
            let mut state = self.state.borrow_mut();
            ids.iter().filter_map(|id| state.decide(|engine, t| engine.step(t, *id))).collect()
        };
        let steps: Vec<StepView> = self.step_views(run.environment, steps).await?;
        let run = views::run(&self.state.borrow(), &run);
        Ok(EventBody::Run { run, steps })
    }

    /// Lines of the log that were not sent yet. The execution that does the work may change: a
    /// retry takes over, a link is undone.
    async fn new_lines(&self, session: SessionId, number: u64, id: Id) -> Result<Option<EventBody>, Refused> {
        let execution = self.doing_the_work(id);
        let from = {
            let mut state = self.state.borrow_mut();
            let found = state.sessions.get_mut(&session).and_then(|found| found.subscriptions.get_mut(&number));
            let Some(subscription) = found else { return Ok(None) };
            match subscription.log {
                Some((known, next)) if known == execution => next,
                _ => 0,
            }
        };
        let chunks = self.read(move |view| view.logs(execution, from)).await?;
        let next = chunks.last().map_or(from, |chunk| chunk.number + 1);
        let mut lines = Vec::new();
        let dropped = unpack(execution, chunks.into_iter().flat_map(|chunk| chunk.lines), &mut lines);
        let mut state = self.state.borrow_mut();
        let found = state.sessions.get_mut(&session).and_then(|found| found.subscriptions.get_mut(&number));
        let Some(subscription) = found else { return Ok(None) };
        let first = subscription.log.is_none();
        subscription.log = Some((execution, next));
        let news = first || !lines.is_empty();
        Ok(news.then_some(EventBody::Log(LogLines { execution, dropped, lines })))
    }
}

/// A hash over everything in a record.
fn hash_of(record: &impl serde::Serialize) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    // What cannot be written is never the same as before.
    postcard::to_allocvec(record).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

struct Taken {
    topic: Topic,
    snapshot: bool,
    runs: BTreeSet<RunId>,
    steps: BTreeSet<StepId>,
}

impl Subscription {
    fn mark(&mut self, touched: &Touched) {
        match &self.topic {
            Topic::Runs { .. } => self.runs.extend(&touched.runs),
            Topic::Run { run } => {
                let first = StepId { run: *run, step: 0 };
                let last = StepId { run: *run, step: u32::MAX };
                self.steps.extend(touched.steps.range(first..=last));
                self.dirty |= touched.runs.contains(run);
            }
            Topic::Log { .. } => self.dirty |= !touched.logs.is_empty() || !touched.steps.is_empty(),
            Topic::Stats => self.dirty = true,
            Topic::Rows(get) => {
                self.dirty |= match &get.list {
                    List::Runs { .. } => !touched.runs.is_empty(),
                    List::Steps { run, .. } => touched.runs.contains(run) || touched.touches(*run),
                    List::Log { .. } => !touched.logs.is_empty() || !touched.steps.is_empty(),
                    _ => !touched.steps.is_empty() || touched.entries,
                };
            }
        }
        if self.runs.len() + self.steps.len() > DIRTY_MAX {
            self.runs.clear();
            self.steps.clear();
            self.snapshot = true;
            self.dirty = true;
        }
    }

    fn is_dirty(&self) -> bool {
        self.dirty || self.snapshot || !self.runs.is_empty() || !self.steps.is_empty()
    }

    fn take(&mut self) -> Taken {
        let snapshot = std::mem::take(&mut self.snapshot);
        self.dirty = false;
        let mut taken = Taken { topic: self.topic.clone(), snapshot, runs: BTreeSet::new(), steps: BTreeSet::new() };
        if !snapshot {
            while taken.runs.len() < CHANGES_PER_EVENT
                && let Some(run) = self.runs.pop_last()
            {
                taken.runs.insert(run);
            }
            while taken.steps.len() < CHANGES_PER_EVENT
                && let Some(step) = self.steps.pop_first()
            {
                taken.steps.insert(step);
            }
        }
        taken
    }
}
