//! What is remembered: namespaces, their keys, and what became of one key.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ibid::model::{Decision, ExecutionId, Id, Identity, Link, State, Step, StepId, Stored};
use ibid::protocol::{
    Anchor, GetRows, Head, KeyExecution, KeySummary, KeyUse, NamespaceView, Refused, Row, Rows, Scope, Sought,
    length_in_words,
};

use super::filter::{Candidate, Filter};
use super::{Found, KEYS_MAX, Listed, Owner, RESOLVED_MAX, sort_of};
use crate::owner::lists::{key_line, namespace_view};
use crate::owner::{now, views};
use crate::store::{HistoryLine, StoreError, View};

const NAMESPACE_SORTS: [&str; 6] = ["used", "name", "made", "reused", "saved", "size"];
const KEY_SORTS: [&str; 3] = ["newest", "time", "state"];
const EXECUTION_SORTS: [&str; 1] = ["newest"];

/// How many borrowers of one result are counted and listed at most.
const BORROWERS_MAX: usize = 10_000;

/// Of how many earlier executions of a key the hits are counted.
const OLDER_MAX: usize = 100;

/// How many steps are read at most to judge a filter by words; the newest come first.
const JUDGED_MAX: usize = 200_000;

impl Listed for Vec<NamespaceView> {
    fn count(&self) -> usize {
        self.len()
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.iter().position(|space| space.namespace == key)
    }

    fn is_failure(&self, at: usize) -> bool {
        self[at].failed > 0
    }

    fn contains(&self, at: usize, text: &str) -> bool {
        self[at].namespace.to_lowercase().contains(text)
    }
}

/// One key of a namespace.
#[derive(Clone, Copy)]
struct Line {
    newest: HistoryLine,
    executed: u32,
}

/// The keys of a namespace, from the newest to the oldest as they are found in its history.
#[derive(Default)]
pub(super) struct Keys {
    /// The last turn that was read.
    turn: u64,
    lines: Vec<Line>,
    places: HashMap<[u8; 8], u32>,
    /// Of keys that ran more than once: the executions before the newest.
    older: HashMap<u32, Vec<HistoryLine>>,
    /// Target and arguments in small letters, of those that were read.
    texts: HashMap<ExecutionId, Box<str>>,
    made: Option<(Filter, &'static str, bool, u64, Vec<u32>)>,
}

impl Keys {
    fn catch_up(&mut self, view: &View, environment: u32, namespace: &str) -> Result<(), StoreError> {
        let (history, turn) = view.history_since(environment, namespace, self.turn)?;
        self.turn = turn;
        for newest in history {
            match self.places.get(&newest.key) {
                Some(place) => {
                    let line = &mut self.lines[*place as usize];
                    line.executed += 1;
                    let older = if newest.created >= line.newest.created {
                        std::mem::replace(&mut line.newest, newest)
                    } else {
                        newest
                    };
                    self.older.entry(*place).or_default().push(older);
                }
                None => {
                    self.places.insert(newest.key, u32::try_from(self.lines.len()).unwrap_or(u32::MAX));
                    self.lines.push(Line { newest, executed: 1 });
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, view: &View, execution: ExecutionId) -> Result<&str, StoreError> {
        Ok(match self.texts.entry(execution) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let step = view.step(execution.step)?;
                let text = step.map(|step| format!("{execution} {} {}", step.target, views::short_arguments(&step)));
                place.insert(text.unwrap_or_default().to_lowercase().into())
            }
        })
    }

    fn order(
        &mut self,
        view: &View,
        filter: Filter,
        sort: &'static str,
        reverse: bool,
    ) -> Result<Ordered<'_>, StoreError> {
        let current = self.turn;
        let is_made = self.made.as_ref().is_some_and(|(made_filter, made_sort, made_reverse, turn, _)| {
            *made_filter == filter && *made_sort == sort && *made_reverse == reverse && *turn == current
        });
        if !is_made {
            let mut order: Vec<u32> = (0u32..).take(self.lines.len()).collect();
            order.sort_by_key(|at| std::cmp::Reverse(self.lines[*at as usize].newest.created));
            if !filter.is_empty() {
                let mut kept = Vec::new();
                for at in order.into_iter().take(if filter.needs_text() { JUDGED_MAX } else { usize::MAX }) {
                    let line = self.lines[at as usize].newest;
                    let text =
                        if filter.needs_text() { self.text(view, line.execution)?.to_owned() } else { String::new() };
                    let key: String = line.key.iter().map(|byte| format!("{byte:02x}")).collect();
                    let candidate = Candidate {
                        state: Some(line.state),
                        created: Some(line.created),
                        key: &key,
                        target: &text,
                        environment: "",
                        text: &text,
                    };
                    if filter.holds(&candidate) {
                        kept.push(at);
                    }
                }
                order = kept;
            }
            match sort {
                "time" => order.sort_by_key(|at| std::cmp::Reverse(self.lines[*at as usize].newest.duration)),
                "state" => order.sort_by_key(|at| self.lines[*at as usize].newest.state),
                _ => {}
            }
            if reverse {
                order.reverse();
            }
            self.made = Some((filter, sort, reverse, current, order));
        }
        let order = self.made.as_ref().map_or(&[][..], |(.., order)| order.as_slice());
        Ok(Ordered { keys: self, order })
    }
}

struct Ordered<'a> {
    keys: &'a Keys,
    order: &'a [u32],
}

impl Ordered<'_> {
    fn line(&self, at: usize) -> &Line {
        &self.keys.lines[self.order[at] as usize]
    }
}

impl Listed for Ordered<'_> {
    fn count(&self) -> usize {
        self.order.len()
    }

    fn position(&self, key: &str) -> Option<usize> {
        let digits = key.get(..16)?;
        let number = u64::from_str_radix(digits, 16).ok()?;
        let place = self.keys.places.get(&number.to_be_bytes())?;
        self.order.iter().position(|at| at == place)
    }

    fn is_failure(&self, at: usize) -> bool {
        self.line(at).newest.state.is_bad()
    }

    fn contains(&self, at: usize, text: &str) -> bool {
        self.keys.texts.get(&self.line(at).newest.execution).is_some_and(|known| known.contains(text))
    }
}

impl Listed for Vec<KeyExecution> {
    fn count(&self) -> usize {
        self.len()
    }

    fn position(&self, key: &str) -> Option<usize> {
        let Ok(Id::Execution(id)) = key.parse() else { return None };
        self.iter().position(|row| row.execution == id)
    }

    fn is_failure(&self, at: usize) -> bool {
        self[at].state.is_bad() && self[at].state != State::Cancelled
    }

    fn contains(&self, at: usize, text: &str) -> bool {
        format!("{} {} {}", self[at].execution, self[at].run, self[at].note).to_lowercase().contains(text)
    }
}

impl Owner {
    pub(super) async fn namespace_rows(&self, get: &GetRows, filter: Filter, scope: &Scope) -> Result<Rows, Refused> {
        let sort = sort_of(get, &NAMESPACE_SORTS)?;
        let environment = match self.environment(&self.state.borrow(), scope) {
            Ok(environment) => environment,
            // An empty daemon remembers nothing, which is no error.
            Err(_) if self.state.borrow().engine.environments().next().is_none() => {
                return Ok(Found::of(&Vec::<NamespaceView>::new(), 0, get).rows(
                    Vec::new(),
                    &NAMESPACE_SORTS,
                    Head::None,
                ));
            }
            Err(refused) => return Err(refused),
        };
        let all = self.read(move |view| view.namespaces(environment)).await?;
        let count = all.len();
        let mut spaces: Vec<NamespaceView> = all.iter().map(namespace_view).collect();
        spaces.retain(|space| {
            let text = space.namespace.to_lowercase();
            let created = Some(space.last_used);
            filter.holds(&Candidate { state: None, created, key: "", target: &text, environment: "", text: &text })
        });
        spaces.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        match sort {
            "name" => {}
            "made" => spaces.sort_by_key(|space| std::cmp::Reverse(space.executed)),
            "reused" => spaces.sort_by_key(|space| std::cmp::Reverse(space.hits + space.links)),
            "saved" => spaces.sort_by_key(|space| std::cmp::Reverse(space.saved)),
            "size" => spaces.sort_by_key(|space| std::cmp::Reverse(space.bytes)),
            _ => spaces.sort_by_key(|space| std::cmp::Reverse(space.last_used)),
        }
        if get.reverse {
            spaces.reverse();
        }
        let found = Found::of(&spaces, count, get);
        let rows = spaces[found.range.clone()].iter().cloned().map(Row::Namespace).collect();
        Ok(found.rows(rows, &NAMESPACE_SORTS, Head::None))
    }

    pub(super) async fn key_rows(
        &self,
        get: &GetRows,
        filter: Filter,
        scope: &Scope,
        namespace: &str,
    ) -> Result<Rows, Refused> {
        let sort = sort_of(get, &KEY_SORTS)?;
        let environment = self.environment(&self.state.borrow(), scope)?;
        let list = self.keys_of(environment, namespace);
        let mut keys = list.lock_owned().await;
        let store = self.state.borrow().past.store().clone();
        let (get, namespace) = (get.clone(), namespace.to_owned());
        let (found, rows) = self
            .aside(move || {
                let view = store.view();
                keys.catch_up(&view, environment, &namespace)?;
                let all = keys.lines.len();
                if let Anchor::Next { what: Sought::Text(_), .. } = get.anchor {
                    let newest: Vec<_> =
                        keys.lines.iter().rev().take(JUDGED_MAX).map(|line| line.newest.execution).collect();
                    for execution in newest {
                        keys.text(&view, execution)?;
                    }
                }
                let ordered = keys.order(&view, filter, sort, get.reverse)?;
                let found = Found::of(&ordered, all, &get);
                let mut rows = Vec::with_capacity(found.range.len());
                for at in found.range.clone() {
                    let older = ordered.keys.older.get(&ordered.order[at]).map_or(&[][..], Vec::as_slice);
                    if let Some(row) = key_use(&view, environment, ordered.line(at), older)? {
                        rows.push(Row::Key(row));
                    }
                }
                Ok((found, rows))
            })
            .await?;
        Ok(found.rows(rows, &KEY_SORTS, Head::None))
    }

    fn keys_of(&self, environment: u32, namespace: &str) -> Arc<tokio::sync::Mutex<Keys>> {
        let keys = &mut self.state.borrow_mut().windows.keys;
        let name = (environment, namespace.to_owned());
        if !keys.contains_key(&name) && keys.len() >= KEYS_MAX {
            let oldest = keys.iter().min_by_key(|(_, kept)| kept.used).map(|(name, _)| name.clone());
            oldest.map(|oldest| keys.remove(&oldest));
        }
        let kept = keys.entry(name).or_default();
        kept.used = std::time::Instant::now();
        kept.list.clone()
    }

    /// The executions of one key, newest first.
    pub(in crate::owner) async fn history_of_key(
        &self,
        environment: u32,
        namespace: &str,
        digest: &[u8; 32],
    ) -> Result<Vec<HistoryLine>, Refused> {
        let mut keys = self.keys_of(environment, namespace).lock_owned().await;
        let store = self.state.borrow().past.store().clone();
        let (namespace, digest) = (namespace.to_owned(), *digest);
        self.aside(move || {
            keys.catch_up(&store.view(), environment, &namespace)?;
            let place = digest.first_chunk::<8>().and_then(|start| keys.places.get(start)).copied();
            let Some(place) = place else { return Ok(Vec::new()) };
            let mut lines = vec![keys.lines[place as usize].newest];
            lines.extend(keys.older.get(&place).into_iter().flatten().rev());
            Ok(lines)
        })
        .await
    }

    /// What ran, joined and took results of one key, newest first, and what it is doing now.
    pub(super) async fn key_executions(
        &self,
        get: &GetRows,
        filter: Filter,
        scope: &Scope,
        key: &str,
    ) -> Result<Rows, Refused> {
        sort_of(get, &EXECUTION_SORTS)?;
        let (environment, step) = self.step_of_key(scope, key).await?;
        let Some(identity) = step.identity.clone() else { return Err(no_key(step.id)) };
        let (unfinished, followers, waiting) = self.under_way(environment, &identity);
        let namespace = step.namespace();
        let digest = identity.digest;
        let history = self.history_of_key(environment, &namespace, &digest).await?;
        let (entry, steps) = self
            .read(move |view| {
                let entry = view.entry(environment, &digest)?.unwrap_or_default();
                let mut steps: BTreeMap<ExecutionId, Step> = BTreeMap::new();
                for line in history {
                    if let Some(step) = view.step(line.execution.step)? {
                        steps.insert(line.execution, step);
                    }
                    for borrower in view.borrowers(line.execution.step, BORROWERS_MAX)? {
                        if let Some(step) = view.step(borrower.step)? {
                            steps.insert(borrower, step);
                        }
                    }
                }
                Ok((entry, steps))
            })
            .await?;
        let mut state = self.state.borrow_mut();
        let mut found: BTreeMap<ExecutionId, Step> = steps;
        for execution in unfinished.into_iter().chain(waiting) {
            if let Some(step) = state.engine.live_step(execution.step) {
                found.insert(execution, step.clone());
            }
        }
        let usable = entry.successes.iter().max_by_key(|success| success.sequence);
        let mut rows = Vec::with_capacity(found.len());
        for (execution, step) in &found {
            let Some(attempt) = step.attempt(execution.attempt) else { continue };
            let run =
                state.decide(|engine, t| engine.run(t, execution.step.run)).map_or_else(String::new, |run| run.target);
            let is_usable = usable.map(|usable| usable.execution) == Some(*execution);
            let is_forgotten = entry.forgotten.iter().any(|(_, forgotten)| forgotten.execution == *execution);
            let note = note(attempt, is_usable, is_forgotten, followers);
            rows.push((
                attempt.sequence,
                KeyExecution {
                    execution: *execution,
                    state: attempt.state(),
                    run,
                    created: attempt.created(),
                    duration: attempt.duration(),
                    link: match attempt.link {
                        Some(Link::Leader(other) | Link::Source(other) | Link::Successor(other)) => Some(other),
                        _ => None,
                    },
                    note,
                },
            ));
        }
        rows.sort_by_key(|(sequence, _)| std::cmp::Reverse(*sequence));
        let all = rows.len();
        let mut rows: Vec<KeyExecution> = rows.into_iter().map(|(_, row)| row).collect();
        rows.retain(|row| {
            let text = format!("{} {} {}", row.execution, row.run, row.note).to_lowercase();
            filter.holds(&Candidate {
                state: Some(row.state),
                created: Some(row.created),
                key: "",
                target: &row.run,
                environment: "",
                text: &text,
            })
        });
        if get.reverse {
            rows.reverse();
        }
        let head = Head::Key(Box::new(KeySummary {
            key: identity.hex(),
            namespace: step.namespace(),
            version: step.options.cache_version.clone(),
            target: step.target.clone(),
            arguments: views::short_arguments(&step),
            usable: usable.map(|usable| usable.execution),
            completed: usable.map(|usable| usable.completed),
            unfinished,
            followers,
            pinned: entry.pinned,
            forgotten: !entry.forgotten.is_empty(),
        }));
        let found = Found::of(&rows, all, get);
        let rows = rows[found.range.clone()].iter().cloned().map(Row::Execution).collect();
        Ok(found.rows(rows, &EXECUTION_SORTS, head))
    }

    /// The execution that is unfinished under an identity, how many follow it, and who.
    fn under_way(&self, environment: u32, identity: &Identity) -> (Option<ExecutionId>, u32, Vec<ExecutionId>) {
        let state = self.state.borrow();
        let unfinished = state.engine.unfinished(environment, &identity.digest);
        let waiting = unfinished.map(|leader| state.engine.followers(leader)).unwrap_or_default();
        (unfinished, u32::try_from(waiting.len()).unwrap_or(u32::MAX), waiting)
    }

    /// The environment that a key is looked for in, and a step that has it.
    pub(in crate::owner) async fn step_of_key(&self, scope: &Scope, key: &str) -> Result<(u32, Step), Refused> {
        if key.starts_with(['R', 'r'])
            && let Ok(id) = key.parse::<Id>()
        {
            self.known(&mut self.state.borrow_mut(), id)?;
            let run = self.run_of(id)?;
            let step = self.state.borrow_mut().decide(|engine, t| engine.step(t, id.step()));
            let step = step.ok_or_else(|| no_key(id.step()))?;
            return if step.identity.is_some() { Ok((run.environment, step)) } else { Err(no_key(step.id)) };
        }
        let environment = self.environment(&self.state.borrow(), scope)?;
        Ok((environment, self.step_with_key(environment, key).await?))
    }

    async fn step_with_key(&self, environment: u32, key: &str) -> Result<Step, Refused> {
        let digits = key.strip_prefix("k:").unwrap_or(key).to_ascii_lowercase();
        if digits.len() < 6 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            let message = format!(
                "'{}' is no key: give at least 6 of its hexadecimal digits, or the id of a step that has it",
                key.escape_debug()
            );
            return Err(Refused::new("bad_request", message));
        }
        let known = self.state.borrow().windows.resolved.get(&(environment, digits.clone())).copied();
        if let Some(id) = known
            && let Some(step) = self.state.borrow_mut().decide(|engine, t| engine.step(t, id))
            && step.identity.as_ref().is_some_and(|identity| begins_with(&identity.digest, &digits))
        {
            return Ok(step);
        }
        let found = match self.live_step_with_key(environment, &digits) {
            Some(step) => step,
            None => self.stored_step_with_key(environment, &digits).await?,
        };
        let resolved = &mut self.state.borrow_mut().windows.resolved;
        if resolved.len() >= RESOLVED_MAX {
            resolved.clear();
        }
        resolved.insert((environment, digits), found.id);
        Ok(found)
    }

    fn live_step_with_key(&self, environment: u32, digits: &str) -> Option<Step> {
        let state = self.state.borrow();
        let has = |step: &&Step| {
            step.identity.as_ref().is_some_and(|identity| begins_with(&identity.digest, digits))
                && state.engine.active_run(step.id.run).is_some_and(|run| run.environment == environment)
        };
        state.engine.live_steps().find(has).cloned()
    }

    async fn stored_step_with_key(&self, environment: u32, digits: &str) -> Result<Step, Refused> {
        let wanted = digits.to_owned();
        let found = self
            .read(move |view| {
                for namespace in view.namespaces(environment)? {
                    for line in view.history(environment, &namespace.name, usize::MAX)? {
                        if !begins_with(&line.key, wanted.get(..16).unwrap_or(&wanted)) {
                            continue;
                        }
                        let Some(step) = view.step(line.execution.step)? else { continue };
                        if step.identity.as_ref().is_some_and(|identity| begins_with(&identity.digest, &wanted)) {
                            return Ok(Some(step));
                        }
                    }
                }
                Ok(None)
            })
            .await?;
        found.ok_or_else(|| {
            Refused::new(
                "not_found",
                format!("no execution has the key {digits}; 'ibid cache ls NAMESPACE' lists keys"),
            )
        })
    }
}

/// Whether a hash begins with hexadecimal digits.
fn begins_with(hash: &[u8], digits: &str) -> bool {
    let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let wanted = digits.chars().map(|digit| digit.to_digit(16));
    digits.len() <= hash.len() * 2 && nibbles.zip(wanted).all(|(nibble, digit)| Some(u32::from(nibble)) == digit)
}

fn no_key(id: StepId) -> Refused {
    Refused::new("not_found", format!("{id} has no key: caching was off for it"))
}

/// A key with what it costs and saves.
fn key_use(view: &View, environment: u32, line: &Line, older: &[HistoryLine]) -> Result<Option<KeyUse>, StoreError> {
    let execution = line.newest.execution;
    let Some(step) = view.step(execution.step)? else { return Ok(None) };
    let Some(key) = key_line(execution, &step) else { return Ok(None) };
    let borrowers = view.borrowers(execution.step, BORROWERS_MAX)?;
    let entry = match &step.identity {
        Some(identity) => view.entry(environment, &identity.digest)?.unwrap_or_default(),
        None => crate::engine::Entry::default(),
    };
    let last = match borrowers.first() {
        Some(borrower) => view.step(borrower.step)?.and_then(|step| Some(step.attempt(borrower.attempt)?.created())),
        None => None,
    };
    let size =
        step.attempt(execution.attempt).and_then(|attempt| attempt.result.as_ref()).map_or(0, |result| match result {
            Stored::Inline(json) => json.as_str().len() as u64,
            Stored::Kept { size, .. } => *size,
        });
    let (mut hits, mut saved) = (borrowers.len() as u64, borrowers.len() as u64 * line.newest.duration);
    for earlier in older.iter().rev().take(OLDER_MAX) {
        let taken = view.borrowers(earlier.execution.step, BORROWERS_MAX)?.len() as u64;
        hits += taken;
        saved += taken * earlier.duration;
    }
    Ok(Some(KeyUse {
        executed: u64::from(line.executed),
        hits,
        saved,
        used: last.unwrap_or(line.newest.created).max(line.newest.created),
        size,
        pinned: entry.pinned,
        forgotten: !entry.forgotten.is_empty(),
        line: key,
    }))
}

/// What an execution did for its key.
fn note(attempt: &ibid::model::Attempt, is_usable: bool, is_forgotten: bool, followers: u32) -> String {
    match (attempt.state(), attempt.link) {
        (State::Running | State::Queued, _) if followers > 0 => format!("does the work, {followers} wait for it"),
        (State::Running, _) => "does the work".to_owned(),
        (State::Queued, _) => "will do the work".to_owned(),
        (State::Linked, Some(Link::Leader(leader))) => format!("waits for {leader}"),
        (State::Cached, Some(Link::Source(source))) => match attempt.decision {
            Decision::Hit { duration, .. } => format!("took {source}, saved {}", length_in_words(duration)),
            _ => format!("joined {source}"),
        },
        (State::Succeeded, _) if is_usable => {
            let age = (now() - attempt.ended().unwrap_or_default()).max(0).cast_unsigned();
            format!("would be taken now, {} old", length_in_words(age))
        }
        (State::Succeeded, _) if is_forgotten => "forgotten by hand".to_owned(),
        (State::Succeeded, _) => "a newer result counts".to_owned(),
        (state, _) => attempt.failure.as_ref().map_or_else(|| state.name().to_owned(), |failure| failure.kind.clone()),
    }
}
