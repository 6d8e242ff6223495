//! The list of all runs.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use ibid::model::{Run, RunId, State, Timestamp};
use ibid::protocol::{GetRows, Head, Refused, Row, Rows, Scope};

use super::filter::{Candidate, Filter};
use super::{Found, Kept, Listed, Owner, sort_of};
use crate::owner::{now, views};
use crate::store::{StoreError, View};

const SORTS: [&str; 6] = ["started", "time", "state", "target", "steps", "reused"];

/// What runs are sorted and filtered by.
#[derive(Clone, Copy)]
struct Line {
    id: RunId,
    environment: u32,
    target: u32,
    state: State,
    created: Timestamp,
    begun: Timestamp,
    ended: Option<Timestamp>,
    steps: u32,
    cached: u32,
}

/// All runs as columns, by id.
#[derive(Default)]
pub(super) struct Catalogue {
    loaded: bool,
    lines: Vec<Line>,
    targets: Vec<String>,
    target_numbers: HashMap<String, u32>,
    /// The order that was wanted last, and of which list: a page further on it need not be made again.
    made: Option<(Query, Vec<u32>)>,
}

#[derive(Clone, PartialEq)]
struct Query {
    filter: Filter,
    sort: &'static str,
    reverse: bool,
    environment: Option<u32>,
}

impl Catalogue {
    fn line(&mut self, run: &Run) -> Line {
        let target = match self.target_numbers.get(&run.target) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
                self.targets.push(run.target.clone());
                self.target_numbers.insert(run.target.clone(), number);
                number
            }
        };
        Line {
            id: run.id,
            environment: run.environment,
            target,
            state: run.state,
            created: run.created,
            begun: run.begun,
            ended: run.ended,
            steps: run.counts.steps,
            cached: run.counts.cached,
        }
    }

    fn load(&mut self, view: &View) -> Result<(), StoreError> {
        if self.loaded {
            return Ok(());
        }
        for run in view.runs(None, usize::MAX, |_| true)?.items.iter().rev() {
            let line = self.line(run);
            self.lines.push(line);
        }
        self.loaded = true;
        Ok(())
    }

    fn put(&mut self, run: &Run) {
        self.made = None;
        let line = self.line(run);
        match self.lines.binary_search_by_key(&run.id, |line| line.id) {
            Ok(at) => self.lines[at] = line,
            Err(at) => self.lines.insert(at, line),
        }
    }

    /// The lines that are wanted, in the order that is wanted.
    fn ordered(&mut self, query: Query, names: &[String], now: Timestamp) -> Ordered<'_> {
        let Query { filter, sort, reverse, environment } = &query;
        let is_plain = filter.is_empty() && *sort == "started" && !reverse && environment.is_none();
        if !is_plain && self.made.as_ref().is_none_or(|(made, _)| *made != query) {
            let order = self.make(&query, names, now);
            self.made = Some((query, order));
        }
        let order = if is_plain { None } else { self.made.as_ref().map(|(_, order)| order.as_slice()) };
        Ordered { lines: &self.lines, targets: &self.targets, order }
    }

    fn make(&self, query: &Query, names: &[String], now: Timestamp) -> Vec<u32> {
        let filter = &query.filter;
        let texts: Vec<String> = self.targets.iter().map(|target| target.to_lowercase()).collect();
        let fits = |line: &Line| {
            if query.environment.is_some_and(|environment| environment != line.environment) {
                return false;
            }
            let name = names.get(line.environment as usize).map_or("", String::as_str);
            let text = if filter.needs_text() {
                format!("{} {} {name}", line.id, texts[line.target as usize]).to_lowercase()
            } else {
                String::new()
            };
            filter.holds(&Candidate {
                state: Some(line.state),
                created: Some(line.created),
                key: "",
                target: &self.targets[line.target as usize],
                environment: name,
                text: &text,
            })
        };
        let all = filter.is_empty() && query.environment.is_none();
        let count = u32::try_from(self.lines.len()).unwrap_or(u32::MAX);
        let mut order: Vec<u32> = (0..count).rev().filter(|at| all || fits(&self.lines[*at as usize])).collect();
        let lasted = |line: &Line| line.ended.unwrap_or(now) - line.begun;
        let compare = |a: &Line, b: &Line| match query.sort {
            "time" => lasted(b).cmp(&lasted(a)),
            "state" => a.state.cmp(&b.state),
            "target" => self.targets[a.target as usize].cmp(&self.targets[b.target as usize]),
            "steps" => b.steps.cmp(&a.steps),
            "reused" => {
                let part = |line: &Line| f64::from(line.cached) / f64::from(line.steps.max(1));
                part(b).total_cmp(&part(a))
            }
            _ => Ordering::Equal,
        };
        if query.sort != "started" {
            order.sort_by(|a, b| compare(&self.lines[*a as usize], &self.lines[*b as usize]));
        }
        if query.reverse {
            order.reverse();
        }
        order
    }
}

/// The catalogue in one order; none stands for all runs, newest first.
struct Ordered<'a> {
    lines: &'a [Line],
    targets: &'a [String],
    order: Option<&'a [u32]>,
}

impl Ordered<'_> {
    fn line(&self, at: usize) -> &Line {
        match self.order {
            Some(order) => &self.lines[order[at] as usize],
            None => &self.lines[self.lines.len() - 1 - at],
        }
    }
}

impl Listed for Ordered<'_> {
    fn count(&self) -> usize {
        self.order.map_or(self.lines.len(), <[u32]>::len)
    }

    fn position(&self, key: &str) -> Option<usize> {
        let id: RunId = match key.parse() {
            Ok(ibid::model::Id::Run(id)) => id,
            _ => return None,
        };
        let index = self.lines.binary_search_by_key(&id, |line| line.id).ok()?;
        match self.order {
            Some(order) => order.iter().position(|other| *other as usize == index),
            None => Some(self.lines.len() - 1 - index),
        }
    }

    fn is_failure(&self, at: usize) -> bool {
        let state = self.line(at).state;
        state.is_bad() && state != State::Cancelled
    }

    fn contains(&self, at: usize, text: &str) -> bool {
        let line = self.line(at);
        self.targets[line.target as usize].to_lowercase().contains(text)
            || line.id.to_string().to_lowercase().contains(text)
    }
}

impl Owner {
    pub(super) async fn run_rows(&self, get: &GetRows, filter: Filter, scope: Option<&Scope>) -> Result<Rows, Refused> {
        let sort = sort_of(get, &SORTS)?;
        let (mut catalogue, environment, names) = loop {
            let (list, environment, names) = self.catalogue(scope)?;
            // One at a time: what has changed is taken in order.
            let locked = list.clone().lock_owned().await;
            if self.state.borrow().windows.runs.as_ref().is_some_and(|kept| kept.is(&list)) {
                break (locked, environment, names);
            }
        };
        let changed: Vec<Run> = {
            let mut guard = self.state.borrow_mut();
            let state = &mut *guard;
            let dirty = state.windows.runs.as_mut().map(|kept| std::mem::take(&mut kept.dirty)).unwrap_or_default();
            dirty.iter().filter_map(|id| state.decide(|engine, t| engine.run(t, *id))).collect()
        };
        let query = Query { filter, sort, reverse: get.reverse, environment };
        let store = self.state.borrow().past.store().clone();
        let get = get.clone();
        let (found, ids) = self
            .aside(move || {
                catalogue.load(&store.view())?;
                for run in &changed {
                    catalogue.put(run);
                }
                let all = catalogue.lines.len();
                let ordered = catalogue.ordered(query, &names, now());
                let found = Found::of(&ordered, all, &get);
                let ids: Vec<RunId> = found.range.clone().map(|at| ordered.line(at).id).collect();
                Ok((found, ids))
            })
            .await?;
        let mut state = self.state.borrow_mut();
        let runs: Vec<Run> = ids.iter().filter_map(|id| state.decide(|engine, t| engine.run(t, *id))).collect();
        let rows = runs.iter().map(|run| Row::Run(views::run(&state, run))).collect();
        Ok(found.rows(rows, &SORTS, Head::None))
    }

    /// The catalogue, the environment that is wanted of it, and the names of all environments by number.
    #[expect(clippy::type_complexity, reason = "three things that are found in one go")]
    fn catalogue(
        &self,
        scope: Option<&Scope>,
    ) -> Result<(Arc<tokio::sync::Mutex<Catalogue>>, Option<u32>, Vec<String>), Refused> {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let environment = scope.map(|scope| self.environment(state, scope)).transpose()?;
        let mut names = Vec::new();
        for environment in state.engine.environments() {
            let at = environment.number as usize;
            names.resize(names.len().max(at + 1), String::new());
            names[at] = format!("{}/{}", environment.project, environment.name);
        }
        if state.windows.runs.is_none() {
            // What is active is not among what the store says of quiet runs.
            let active = state.engine.active_runs().map(|run| run.id).collect();
            state.windows.runs = Some(Kept { dirty: active, ..Kept::default() });
        }
        let kept = state.windows.runs.get_or_insert_default();
        kept.used = std::time::Instant::now();
        Ok((kept.list.clone(), environment, names))
    }
}
