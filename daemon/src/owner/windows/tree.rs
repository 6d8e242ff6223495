//! The steps of a run as a tree: who called whom.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ibid::model::{Id, RunId, State, Step, StepId, Timestamp};
use ibid::protocol::{Anchor, Folds, GetRows, Head, Refused, Row, Rows, TreeGroup, TreeStep};

use super::filter::{Candidate, Filter};
use super::{Found, Listed, Owner, TREES_MAX, make_room, sort_of};
use crate::owner::{now, views};
use crate::store::View;

const SORTS: [&str; 4] = ["start", "time", "state", "target"];

/// What a step is shown, sorted and filtered by.
struct Node {
    id: StepId,
    caller: Option<StepId>,
    group: Option<u32>,
    state: State,
    created: Timestamp,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    target: u32,
    key: String,
    /// Target and arguments, in small letters.
    text: Box<str>,
}

/// A run's steps, by number.
#[derive(Default)]
pub(super) struct Tree {
    loaded: bool,
    nodes: Vec<Node>,
    names: Vec<String>,
    numbers: HashMap<String, u32>,
    /// Counts changes, and those of who called whom.
    version: u64,
    shape: u64,
    made: Option<(Query, u64, Flattened)>,
}

/// The lines of the tree, and the calls of each group by its first.
#[derive(Default)]
struct Flattened {
    lines: Vec<Line>,
    members: HashMap<u32, Vec<u32>>,
}

#[derive(Clone, PartialEq)]
struct Query {
    filter: Filter,
    sort: &'static str,
    reverse: bool,
    folds: Folds,
}

/// A line of the flattened tree.
#[derive(Clone, Copy)]
struct Line {
    /// The step; of a group its first.
    node: u32,
    /// The line that it hangs from.
    parent: Option<u32>,
    /// Whether it is the last there.
    last: bool,
    /// Where its group's calls are among all groups that were made.
    group: Option<u32>,
    has_children: bool,
}

/// The state that counts for the eye: of a call that another stands for, how that ended.
fn shown_state(step: &Step) -> State {
    let Some(attempt) = step.attempts.last() else { return step.state() };
    match (attempt.state(), attempt.resolved) {
        (State::Spawned, Some(State::Succeeded | State::Cached)) => State::Succeeded,
        (State::Spawned, Some(ended)) => ended,
        (State::Deferred, Some(ended)) if ended.is_bad() => State::Failed,
        (state, _) => state,
    }
}

impl Tree {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn put(&mut self, step: &Step) {
        self.version += 1;
        let group = step.group.as_deref().map(|name| self.number(name));
        let target = self.number(&step.target);
        let newest = step.attempts.last();
        let own =
            newest.filter(|attempt| matches!(attempt.state(), State::Succeeded | State::Failed | State::TimedOut));
        let node = Node {
            id: step.id,
            caller: step.caller.map(|caller| caller.step).filter(|caller| caller.run == step.id.run),
            group,
            state: shown_state(step),
            created: newest.map_or(0, ibid::model::Attempt::created),
            started: newest.and_then(|attempt| attempt.entered(State::Running)),
            ended: own.and_then(ibid::model::Attempt::ended),
            target,
            key: step.identity.as_ref().map(ibid::model::Identity::short).unwrap_or_default(),
            text: format!("{} {} {}", step.id, step.target, views::short_arguments(step)).to_lowercase().into(),
        };
        match self.nodes.binary_search_by_key(&step.id, |node| node.id) {
            Ok(at) => self.nodes[at] = node,
            Err(at) => {
                self.nodes.insert(at, node);
                self.shape += 1;
            }
        }
    }

    fn load(&mut self, view: &View, run: RunId) -> Result<(), crate::store::StoreError> {
        if !self.loaded {
            for step in view.steps(run, 0, usize::MAX)? {
                self.put(&step);
            }
            self.loaded = true;
        }
        Ok(())
    }

    fn lines(&mut self, query: Query, now: Timestamp) -> Flat<'_> {
        // In the order of submission the tree stays the same while states change.
        let is_plain = query.sort == "start" && query.filter.is_empty();
        let current = if is_plain { self.shape } else { self.version };
        if self.made.as_ref().is_none_or(|(made, version, _)| *made != query || *version != current) {
            let lines = self.flatten(&query, now);
            self.made = Some((query, current, lines));
        }
        let made = self.made.as_ref();
        let lines = made.map_or(&[][..], |(_, _, flat)| flat.lines.as_slice());
        Flat { tree: self, lines, members: made.map(|(_, _, flat)| &flat.members) }
    }

    /// Unfolds what hides a step.
    fn reveal(&self, key: &str, folds: &mut Folds) {
        let Ok(Id::Step(mut id)) = key.trim_end_matches(" group").parse::<Id>() else { return };
        let on_group = key.ends_with(" group");
        let mut is_self = true;
        // A caller has a lower number than what it called.
        while let Ok(at) = self.nodes.binary_search_by_key(&id, |node| node.id) {
            let node = &self.nodes[at];
            if !is_self {
                folds.steps.retain(|folded| *folded != id);
            }
            if node.group.is_some() && !(is_self && on_group) {
                let same = |other: &&Node| other.caller == node.caller && other.group == node.group;
                if let Some(first) = self.nodes.iter().find(same).map(|first| first.id)
                    && !folds.groups.contains(&first)
                {
                    folds.groups.push(first);
                }
            }
            is_self = false;
            match node.caller {
                Some(caller) if caller < id => id = caller,
                _ => return,
            }
        }
    }

    /// The lines of the tree, callers before what they called. What is below a folded step or group is left
    /// out; where a filter is set, what it leaves out is, and what hides it unfolds.
    fn flatten(&self, query: &Query, now: Timestamp) -> Flattened {
        let filtered = !query.filter.is_empty();
        let fits = |node: &Node| {
            query.filter.holds(&Candidate {
                state: Some(node.state),
                created: Some(node.created),
                key: &node.key,
                target: &self.names[node.target as usize],
                environment: "",
                text: &node.text,
            })
        };
        let place = |id: &StepId| self.nodes.binary_search_by_key(id, |node| node.id).ok();
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); self.nodes.len()];
        let mut roots = Vec::new();
        for (index, node) in (0u32..).zip(&self.nodes) {
            match node.caller.as_ref().and_then(place) {
                Some(caller) => children[caller].push(index),
                None => roots.push(index),
            }
        }
        if query.sort != "start" || query.reverse {
            for called in children.iter_mut().chain([&mut roots]) {
                called.sort_by(|a, b| self.compare(query.sort, *a, *b, now));
                if query.reverse {
                    called.reverse();
                }
            }
        }
        if filtered {
            // A list of what fits, without the branches that the rest would have held together.
            return Flattened { lines: self.matching(&roots, &children, fits), members: HashMap::new() };
        }
        let folded: BTreeSet<StepId> = query.folds.steps.iter().copied().collect();
        let unfolded: BTreeSet<StepId> = query.folds.groups.iter().copied().collect();
        let mut lines: Vec<Line> = Vec::with_capacity(self.nodes.len());
        let mut members = HashMap::new();
        // What is still to be shown, the next on top: a step, or a group's calls.
        enum Branch {
            Step(u32),
            Group(Vec<u32>),
        }
        let mut stack: Vec<(Branch, Option<u32>, bool)> = Vec::new();
        let count = roots.len();
        stack.extend(roots.iter().enumerate().rev().map(|(at, root)| (Branch::Step(*root), None, at + 1 == count)));
        while let Some((branch, parent, last)) = stack.pop() {
            let own = u32::try_from(lines.len()).unwrap_or(u32::MAX);
            let below: Vec<Branch> = match branch {
                Branch::Step(node) => {
                    let called = &children[node as usize];
                    lines.push(Line { node, parent, last, group: None, has_children: !called.is_empty() });
                    if folded.contains(&self.nodes[node as usize].id) {
                        Vec::new()
                    } else {
                        let mut branches: Vec<Branch> = Vec::with_capacity(called.len());
                        let mut places: BTreeMap<u32, usize> = BTreeMap::new();
                        for child in called {
                            let Some(group) = self.nodes[*child as usize].group else {
                                branches.push(Branch::Step(*child));
                                continue;
                            };
                            match places.get(&group).and_then(|place| branches.get_mut(*place)) {
                                Some(Branch::Group(calls)) => calls.push(*child),
                                _ => {
                                    places.insert(group, branches.len());
                                    branches.push(Branch::Group(vec![*child]));
                                }
                            }
                        }
                        branches
                    }
                }
                Branch::Group(calls) => {
                    // However they are sorted, the group is known by the call that was made first.
                    let Some(first) = calls.iter().min().copied() else { continue };
                    let group = self.nodes[first as usize].group;
                    lines.push(Line { node: first, parent, last, group, has_children: true });
                    members.insert(first, calls.clone());
                    if query.folds.all_groups || unfolded.contains(&self.nodes[first as usize].id) {
                        calls.into_iter().map(Branch::Step).collect()
                    } else {
                        Vec::new()
                    }
                }
            };
            let count = below.len();
            for (at, child) in below.into_iter().enumerate().rev() {
                stack.push((child, Some(own), at + 1 == count));
            }
        }
        Flattened { lines, members }
    }

    fn matching(&self, roots: &[u32], children: &[Vec<u32>], fits: impl Fn(&Node) -> bool) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut stack: Vec<u32> = roots.iter().rev().copied().collect();
        while let Some(node) = stack.pop() {
            if fits(&self.nodes[node as usize]) {
                lines.push(Line { node, parent: None, last: true, group: None, has_children: false });
            }
            stack.extend(children[node as usize].iter().rev());
        }
        lines
    }

    fn compare(&self, sort: &str, a: u32, b: u32, now: Timestamp) -> std::cmp::Ordering {
        let (a, b) = (&self.nodes[a as usize], &self.nodes[b as usize]);
        let lasted = |node: &Node| node.started.map_or(0, |started| node.ended.unwrap_or(now) - started);
        let by = match sort {
            "time" => lasted(b).cmp(&lasted(a)),
            "state" => a.state.cmp(&b.state),
            "target" => self.names[a.target as usize].cmp(&self.names[b.target as usize]),
            _ => std::cmp::Ordering::Equal,
        };
        by.then_with(|| a.id.cmp(&b.id))
    }
}

/// The flattened tree.
struct Flat<'a> {
    tree: &'a Tree,
    lines: &'a [Line],
    members: Option<&'a HashMap<u32, Vec<u32>>>,
}

impl Flat<'_> {
    fn node(&self, at: usize) -> &Node {
        &self.tree.nodes[self.lines[at].node as usize]
    }

    fn branches(&self, at: usize) -> String {
        let line = &self.lines[at];
        let mut pieces = Vec::new();
        let mut above = line.parent;
        while let Some(parent) = above.and_then(|parent| self.lines.get(parent as usize)) {
            if parent.parent.is_some() {
                pieces.push(if parent.last { "  " } else { "│ " });
            }
            above = parent.parent;
        }
        let mut text: String = pieces.into_iter().rev().collect();
        if line.parent.is_some() {
            text.push(if line.last { '└' } else { '├' });
        }
        text
    }

    /// The calls of the group in a line.
    fn calls(&self, at: usize) -> impl Iterator<Item = &Node> {
        let members = self.members.and_then(|members| members.get(&self.lines[at].node));
        members.into_iter().flatten().map(|node| &self.tree.nodes[*node as usize])
    }

    fn shape(&self, at: usize, folds: &Folds) -> Shape {
        let (line, node) = (&self.lines[at], self.node(at));
        let branches = self.branches(at);
        let Some(group) = line.group else {
            return Shape::Step { id: node.id, branches, has_children: line.has_children };
        };
        let mut states: BTreeMap<State, u32> = BTreeMap::new();
        let (mut calls, mut spent) = (0, 0);
        for call in self.calls(at) {
            *states.entry(call.state).or_default() += 1;
            calls += 1;
            if let (Some(started), Some(ended)) = (call.started, call.ended) {
                spent += (ended - started).max(0).cast_unsigned();
            }
        }
        Shape::Group(TreeGroup {
            name: self.tree.names[group as usize].clone(),
            first: node.id,
            caller: node.caller,
            calls,
            states: states.into_iter().collect(),
            spent,
            branches,
            unfolded: folds.all_groups || folds.groups.contains(&node.id),
        })
    }
}

impl Listed for Flat<'_> {
    fn count(&self) -> usize {
        self.lines.len()
    }

    fn position(&self, key: &str) -> Option<usize> {
        let (text, on_group) = match key.strip_suffix(" group") {
            Some(first) => (first, true),
            None => (key, false),
        };
        let Ok(Id::Step(id)) = text.parse::<Id>() else { return None };
        self.lines
            .iter()
            .position(|line| line.group.is_some() == on_group && self.tree.nodes[line.node as usize].id == id)
    }

    fn is_failure(&self, at: usize) -> bool {
        let failed = |node: &Node| node.state.is_bad() && node.state != State::Cancelled;
        let node = self.node(at);
        if self.lines[at].group.is_some() { self.calls(at).any(failed) } else { failed(node) }
    }

    fn contains(&self, at: usize, text: &str) -> bool {
        let node = self.node(at);
        match self.lines[at].group {
            Some(group) => {
                self.tree.names[group as usize].to_lowercase().contains(text)
                    || self.calls(at).any(|call| call.text.contains(text))
            }
            None => node.text.contains(text),
        }
    }
}

/// A row before its step is read.
enum Shape {
    Step { id: StepId, branches: String, has_children: bool },
    Group(TreeGroup),
}

impl Owner {
    fn tree(&self, run: RunId) -> Arc<tokio::sync::Mutex<Tree>> {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        if !state.windows.trees.contains_key(&run) {
            make_room(&mut state.windows.trees, TREES_MAX);
            // What is live is not among what the store says of finished steps.
            let live = state.engine.live_steps_of(run).map(|step| step.id).collect();
            state.windows.trees.insert(run, super::Kept { dirty: live, ..super::Kept::default() });
        }
        let kept = state.windows.trees.entry(run).or_default();
        kept.used = std::time::Instant::now();
        kept.list.clone()
    }

    pub(super) async fn tree_rows(
        &self,
        get: &GetRows,
        filter: Filter,
        run: RunId,
        folds: &Folds,
    ) -> Result<Rows, Refused> {
        let sort = sort_of(get, &SORTS)?;
        let mut tree = loop {
            let list = self.tree(run);
            let locked = list.clone().lock_owned().await;
            if self.state.borrow().windows.trees.get(&run).is_some_and(|kept| kept.is(&list)) {
                break locked;
            }
        };
        let changed: Vec<Step> = {
            let mut guard = self.state.borrow_mut();
            let state = &mut *guard;
            let kept = state.windows.trees.get_mut(&run);
            let dirty = kept.map(|kept| std::mem::take(&mut kept.dirty)).unwrap_or_default();
            dirty.iter().filter_map(|id| state.decide(|engine, t| engine.step(t, *id))).collect()
        };
        let mut query = Query { filter, sort, reverse: get.reverse, folds: folds.clone() };
        let store = self.state.borrow().past.store().clone();
        let get = get.clone();
        let (found, shapes, folds) = self
            .aside(move || {
                tree.load(&store.view(), run)?;
                for step in &changed {
                    tree.put(step);
                }
                let all = tree.nodes.len();
                if let Anchor::Row { key, .. } = &get.anchor {
                    tree.reveal(key, &mut query.folds);
                }
                let folds = query.folds.clone();
                let flat = tree.lines(query, now());
                let found = Found::of(&flat, all, &get);
                let shapes: Vec<Shape> = found.range.clone().map(|at| flat.shape(at, &folds)).collect();
                Ok((found, shapes, folds))
            })
            .await?;
        let known = self.run_of(Id::Run(run))?;
        let steps: Vec<Step> = {
            let mut state = self.state.borrow_mut();
            let ids = shapes.iter().filter_map(|shape| match shape {
                Shape::Step { id, .. } => Some(*id),
                Shape::Group(_) => None,
            });
            ids.filter_map(|id| state.decide(|engine, t| engine.step(t, id))).collect()
        };
        let views = self.step_views(known.environment, steps).await?;
        let mut views: BTreeMap<StepId, _> = views.into_iter().map(|view| (view.id, view)).collect();
        let rows = shapes
            .into_iter()
            .filter_map(|shape| match shape {
                Shape::Step { id, branches, has_children } => {
                    let step = views.remove(&id)?;
                    Some(Row::Step(Box::new(TreeStep { step, branches, has_children })))
                }
                Shape::Group(group) => Some(Row::Group(group)),
            })
            .collect();
        let head = Head::Run { run: Box::new(views::run(&self.state.borrow(), &known)), folds };
        Ok(found.rows(rows, &SORTS, head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibid::model::{Attempt, CallOptions, Decision, TargetKind, Transition, Trigger};
    use ibid::protocol::group_key;

    fn step(number: u32, caller: Option<u32>, group: Option<&str>, state: State) -> Step {
        let run = RunId(1);
        let first = Transition { at: 1000, state, cause: String::new() };
        Step {
            id: StepId { run, step: number },
            target: format!("repo/t{number}"),
            kind: TargetKind::Task,
            arguments: Vec::new(),
            options: CallOptions::default(),
            identity: None,
            caller: caller.map(|step| StepId { run, step }.attempt(1)),
            group: group.map(str::to_owned),
            burst: None,
            memo: None,
            retries_used: 0,
            command: None,
            attempts: vec![Attempt::new(0, Trigger::Call, Decision::Off, first, 1000)],
        }
    }

    fn tree() -> Tree {
        let mut tree = Tree { loaded: true, ..Tree::default() };
        tree.put(&step(1, None, None, State::Running));
        tree.put(&step(2, Some(1), Some("pages"), State::Succeeded));
        tree.put(&step(3, Some(1), None, State::Succeeded));
        tree.put(&step(4, Some(1), Some("pages"), State::Failed));
        tree.put(&step(5, Some(3), None, State::Succeeded));
        tree
    }

    fn query(folds: Folds, filter: &str) -> Query {
        Query { filter: Filter::parse(filter, 0).unwrap(), sort: "start", reverse: false, folds }
    }

    fn keys(tree: &mut Tree, query: Query) -> Vec<String> {
        let flat = tree.lines(query, 0);
        (0..flat.count())
            .map(|at| {
                let node = flat.node(at).id;
                let key = if flat.lines[at].group.is_some() { group_key(node) } else { node.to_string() };
                format!("{}{key}", flat.branches(at))
            })
            .collect()
    }

    #[test]
    fn callers_come_before_what_they_called_and_groups_are_one_line() {
        let shown = keys(&mut tree(), query(Folds::default(), ""));
        assert_eq!(shown, ["R1:1", "├R1:2 group", "└R1:3", "  └R1:5"]);
        let groups = vec![StepId { run: RunId(1), step: 2 }];
        let shown = keys(&mut tree(), query(Folds { groups, ..Folds::default() }, ""));
        assert_eq!(shown, ["R1:1", "├R1:2 group", "│ ├R1:2", "│ └R1:4", "└R1:3", "  └R1:5"]);
        let steps = vec![StepId { run: RunId(1), step: 3 }];
        let shown = keys(&mut tree(), query(Folds { steps, ..Folds::default() }, ""));
        assert_eq!(shown, ["R1:1", "├R1:2 group", "└R1:3"]);
    }

    #[test]
    fn a_filter_finds_what_is_folded_away() {
        assert_eq!(keys(&mut tree(), query(Folds::default(), "state:failed")), ["R1:4"]);
        assert_eq!(keys(&mut tree(), query(Folds::default(), "t5")), ["R1:5"]);
    }

    #[test]
    fn what_is_gone_to_is_unfolded() {
        let id = |step| StepId { run: RunId(1), step };
        let mut folds = Folds { steps: vec![id(1), id(3), id(5)], ..Folds::default() };
        tree().reveal("R1:5", &mut folds);
        assert_eq!(folds, Folds { steps: vec![id(5)], ..Folds::default() });
        tree().reveal("R1:4", &mut folds);
        assert_eq!(folds.groups, [id(2)]);
        let mut folds = Folds::default();
        tree().reveal("R1:2 group", &mut folds);
        assert_eq!(folds, Folds::default());
    }

    #[test]
    fn a_group_with_a_failure_in_it_is_a_failure() {
        let mut tree = tree();
        let flat = tree.lines(query(Folds::default(), ""), 0);
        assert!(flat.is_failure(1) && !flat.is_failure(2));
        let Shape::Group(group) = flat.shape(1, &Folds::default()) else { panic!("a group") };
        assert_eq!((group.calls, group.states.as_slice()), (2, &[(State::Succeeded, 1), (State::Failed, 1)][..]));
    }

    #[test]
    fn a_very_deep_tree_is_flattened_without_recursion() {
        let mut tree = Tree { loaded: true, ..Tree::default() };
        for number in 1..=20_000 {
            tree.put(&step(number, (number > 1).then(|| number - 1), None, State::Succeeded));
        }
        assert_eq!(tree.lines(query(Folds::default(), ""), 0).count(), 20_000);
    }
}
