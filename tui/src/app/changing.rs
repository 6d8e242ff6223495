//! What changes something: running again, cancelling, forgetting, pinning; and comparing.

use ibid::model::Id;
use ibid::protocol::{
    CacheForget, CachePin, CacheUnpin, Cancel, Compare, Explanation, Predict, Request, Rerun, Row, Scope, Show, Shown,
};

use super::model::{Model, Overlay, Purpose, Screen, Undo};

impl Model {
    pub(super) fn ask_rerun(&mut self) {
        let Some(id) = self.selected_or_said() else { return };
        self.overlay = Some(Overlay::Rerun { step: id.step(), predicted: None });
        self.ask(Purpose::Predict, Request::Predict(Predict { id }));
    }

    /// A letter of the menu of re-runs. Says whether it was one.
    pub(super) fn rerun(&mut self, step: ibid::model::StepId, key: &str) -> bool {
        let id = Id::Step(step);
        let root = Id::Run(step.run);
        match key {
            "f" => _ = self.ask(Purpose::Rerun, Request::Rerun(Rerun { id, below: false })),
            "b" => _ = self.ask(Purpose::Rerun, Request::Rerun(Rerun { id, below: true })),
            "n" => _ = self.ask(Purpose::Root, Request::Show(Show { id: root })),
            "a" => _ = self.ask(Purpose::RootToEdit, Request::Show(Show { id: root })),
            _ => return false,
        }
        true
    }

    /// Cancels what is selected, unless others wait for it: then it is asked how that is meant.
    pub(super) fn cancel_selected(&mut self) {
        if let Some(id) = self.selected_or_said() {
            self.ask(Purpose::CancelCheck, Request::Show(Show { id }));
        }
    }

    pub(super) fn cancel_or_ask(&mut self, shown: &Shown) {
        let others = shown.execution.followers.len();
        // A run is cancelled with all that it called, a step as what its newest execution does.
        let id = if shown.step.id.step == 1 { Id::Run(shown.run.id) } else { Id::Execution(shown.execution.id) };
        if others > 0 {
            self.overlay = Some(Overlay::Cancel { id, others });
        } else {
            self.ask(Purpose::Cancel, Request::Cancel(Cancel { id, force: false }));
        }
    }

    /// The key that is selected, and where it is.
    fn selected_key(&self) -> Option<(Scope, String)> {
        let scope = self.scope_shown();
        if let Screen::Key(key) = &self.screen {
            return Some((scope, key.clone()));
        }
        match self.main.selected_row()? {
            Row::Key(row) => Some((scope, row.line.key.clone())),
            Row::Step(row) => row.step.key.is_some().then(|| (scope, row.step.id.to_string())),
            _ => None,
        }
    }

    fn key_or_said(&mut self) -> Option<(Scope, String)> {
        let key = self.selected_key();
        if key.is_none() {
            self.status = "it has no key: caching is off for it".to_owned();
        }
        key
    }

    pub(super) fn forget_selected(&mut self) {
        let Some((scope, key)) = self.key_or_said() else { return };
        let undo = Undo::Forget(scope.clone(), key.clone());
        let asked = self.ask(Purpose::Forget, Request::CacheForget(CacheForget { scope, key, undo: false }));
        self.changing.extend(asked.map(|number| (number, undo)));
    }

    pub(super) fn pin_selected(&mut self) {
        let Some((scope, key)) = self.key_or_said() else { return };
        let pinned = match (self.main.selected_row(), &self.main.head) {
            (Some(Row::Key(row)), _) => row.pinned,
            (_, ibid::protocol::Head::Key(summary)) => summary.pinned,
            _ => matches!(self.undo.last(), Some(Undo::Pin(_, last)) if *last == key),
        };
        if pinned {
            let undo = Undo::Unpin(scope.clone(), key.clone());
            let asked = self.ask(Purpose::Unpin, Request::CacheUnpin(CacheUnpin { scope, key }));
            self.changing.extend(asked.map(|number| (number, undo)));
        } else {
            let undo = Undo::Pin(scope.clone(), key.clone());
            let asked = self.ask(Purpose::Pin, Request::CachePin(CachePin { scope, key }));
            self.changing.extend(asked.map(|number| (number, undo)));
        }
    }

    pub(super) fn mark_selected(&mut self) {
        let Some(id) = self.selected_or_said() else { return };
        if self.marked.contains(&id) {
            self.marked.retain(|marked| *marked != id);
        } else {
            self.marked.push(id);
            if self.marked.len() > 2 {
                self.marked.remove(0);
            }
        }
        self.status = match self.marked.as_slice() {
            [] => "nothing is marked".to_owned(),
            [one] => format!("{one} is marked; mark another, d compares them"),
            both => format!("{} and {} are marked; d compares them", both[0], both[1]),
        };
        self.move_by(1);
    }

    /// Compares two that are marked, or a marked one with the selected one, or that with the nearest that
    /// its explanation knows.
    pub(super) fn compare(&mut self) {
        match (self.marked.clone().as_slice(), self.selected_id()) {
            ([one, other], _) => self.compare_two(*one, *other),
            ([one], Some(other)) if *one != other => self.compare_two(*one, other),
            (_, Some(id)) => self.ask_why(Purpose::Nearest, id),
            (_, None) => self.status = "select or mark what is to be compared".to_owned(),
        }
    }

    pub(super) fn compare_two(&mut self, one: Id, other: Id) {
        self.marked.clear();
        self.ask(Purpose::Compare, Request::Compare(Compare { one, other }));
    }

    /// The nearest earlier execution, the source or the leader: whatever an explanation is about.
    pub(super) fn compare_with_nearest(&mut self, explanation: &Explanation) {
        use ibid::model::{Decision, Miss};
        let nearest = explanation.facts.iter().find(|fact| fact.name == "nearest").and_then(|fact| fact.id);
        let other = nearest.or(match &explanation.decision {
            Decision::Hit { source: id, .. }
            | Decision::Linked { leader: id }
            | Decision::Retry { after: id }
            | Decision::Miss(
                Miss::TooOld { source: id, .. }
                | Miss::LastFailed { execution: id }
                | Miss::OtherEnvironment { execution: id, .. }
                | Miss::OwnAncestor { execution: id }
                | Miss::Forgotten { execution: id, .. },
            ) => Some(Id::Execution(*id)),
            Decision::Forced if explanation.execution.attempt > 1 => {
                Some(Id::Execution(explanation.execution.step.attempt(explanation.execution.attempt - 1)))
            }
            _ => None,
        });
        match other {
            Some(other) => self.compare_two(other, Id::Execution(explanation.execution)),
            None => {
                self.status = format!(
                    "nothing is near {}: mark another with space, then d compares the two",
                    explanation.execution
                );
            }
        }
    }
}
