//! What a step hangs together with: what it depends on above it, what depends on it below.

use ibid::model::{Id, State};
use ibid::protocol::StepView;

use super::model::Model;
use super::steps::{self, glyph};
use crate::output::clean;

/// A line of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphLine {
    /// How the thing hangs together with the step, e.g. `asked by`.
    pub relation: &'static str,
    pub text: String,
    pub state: Option<State>,
    /// What `enter` opens.
    pub id: Option<Id>,
    /// Whether it is the step itself.
    pub is_self: bool,
}

/// The lines of the graph of the step that is looked at.
pub fn lines(model: &Model) -> Vec<GraphLine> {
    let Some(shown) = &model.graph else { return Vec::new() };
    let (step, attempt) = (&shown.step, &shown.execution);
    let mut lines = Vec::new();
    let mut add = |relation: &'static str, id: Id, text: String, state: Option<State>| {
        lines.push(GraphLine { relation, text, state, id: Some(id), is_self: false });
    };
    let known = |id: &ibid::model::StepId| {
        model.main.rows.iter().filter_map(ibid::protocol::Row::step).find(|step| step.id == *id)
    };
    let named = |id: &ibid::model::StepId| known(id).map_or_else(|| id.to_string(), name);
    let state_of = |id: &ibid::model::StepId| known(id).map(steps::shown_state);
    if let Some(caller) = step.caller {
        add("asked by", Id::Execution(caller), named(&caller.step), state_of(&caller.step));
    } else if let Some(caller) = shown.run.caller {
        add("asked by", Id::Step(caller), format!("{caller}, of another run"), None);
    }
    for blocking in &attempt.blocked_by {
        add("after", Id::Step(*blocking), named(blocking), state_of(blocking));
    }
    for (relation, id) in [
        ("result of", attempt.source),
        ("waits for", attempt.leader.filter(|_| attempt.source.is_none())),
        ("replaced by", attempt.successor),
    ] {
        if let Some(id) = id {
            add(relation, Id::Execution(id), named(&id.step), state_of(&id.step));
        }
    }
    if let Some(run) = attempt.run {
        add("its run", Id::Run(run), run.to_string(), Some(steps::shown_state(step)));
    }
    for waited in &attempt.waiting_on {
        add("waits for", Id::Execution(*waited), named(&waited.step), state_of(&waited.step));
    }
    lines.push(GraphLine {
        relation: "",
        text: name(step),
        state: Some(steps::shown_state(step)),
        id: Some(Id::Step(step.id)),
        is_self: true,
    });
    let mut add = |relation: &'static str, id: Id, text: String, state: Option<State>| {
        lines.push(GraphLine { relation, text, state, id: Some(id), is_self: false });
    };
    for child in &shown.children {
        add("calls", Id::Step(child.id), name(child), Some(steps::shown_state(child)));
    }
    for follower in &attempt.followers {
        add("joined by", Id::Execution(*follower), named(&follower.step), Some(State::Linked));
    }
    for borrower in shown.borrowers.iter().filter(|borrower| !attempt.followers.contains(borrower)) {
        add("taken by", Id::Execution(*borrower), named(&borrower.step), Some(State::Cached));
    }
    for older in &attempt.superseded {
        add("stands for", Id::Execution(*older), named(&older.step), Some(State::Deferred));
    }
    lines
}

fn name(step: &StepView) -> String {
    let arguments = steps::short_arguments(&step.arguments, 60);
    clean(format!("{} {} {arguments}", step.id, steps::short_target(&step.target)).trim_end())
}

/// The line as text, with the branch that leads to it.
pub fn text(line: &GraphLine, ascii: bool) -> String {
    let mark = line.state.map_or(" ", |state| glyph(state, ascii));
    if line.is_self {
        format!("{:<12} {mark} {}", "", line.text)
    } else {
        format!("{:<12} {mark} {}", line.relation, line.text)
    }
}
