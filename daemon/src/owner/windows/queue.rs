//! What waits: one row for each key, however many wait for it.

use ibid::model::{ExecutionId, State, Timestamp};
use ibid::protocol::{GetRows, Head, QueueGroup, Refused, Row, Rows};

use super::filter::{Candidate, Filter};
use super::{Found, Listed, Owner, sort_of};
use crate::owner::views;

const SORTS: [&str; 4] = ["reason", "since", "target", "waiting"];

/// A queued execution, or one that others are linked to.
struct Line<'a> {
    execution: ExecutionId,
    state: State,
    since: Timestamp,
    followers: u32,
    /// The kind of reason, for the order.
    kind: u8,
    target: &'a str,
    text: String,
}

impl Listed for Vec<Line<'_>> {
    fn count(&self) -> usize {
        self.len()
    }

    fn position(&self, key: &str) -> Option<usize> {
        let Ok(ibid::model::Id::Execution(id)) = key.parse() else { return None };
        self.iter().position(|line| line.execution == id)
    }

    fn is_failure(&self, _: usize) -> bool {
        false
    }

    fn contains(&self, at: usize, text: &str) -> bool {
        self[at].text.contains(text) || self[at].target.to_lowercase().contains(text)
    }
}

impl Owner {
    pub(super) fn queue_rows(&self, get: &GetRows, filter: &Filter) -> Result<Rows, Refused> {
        let sort = sort_of(get, &SORTS)?;
        let searches = matches!(get.anchor, ibid::protocol::Anchor::Next { .. });
        let now = crate::owner::now();
        let state = self.state.borrow();
        let (mut lines, mut all) = (Vec::new(), 0);
        for step in state.engine.live_steps() {
            let Some(attempt) = step.attempts.last() else { continue };
            let execution = step.newest();
            let queued = attempt.state() == State::Queued;
            let followers = state.engine.follower_count(execution);
            if !queued && followers == 0 {
                continue;
            }
            all += 1;
            let text = if filter.needs_text() || searches {
                format!("{execution} {} {}", step.target, views::short_arguments(step)).to_lowercase()
            } else {
                String::new()
            };
            // Whatever a filter does not ask for is not made: there may be very many.
            let key = match (&step.identity, filter.is_empty()) {
                (Some(identity), false) => identity.short(),
                _ => String::new(),
            };
            let candidate = Candidate {
                state: Some(attempt.state()),
                created: Some(attempt.created()),
                key: &key,
                target: &step.target,
                environment: "",
                text: &text,
            };
            if !filter.holds(&candidate) {
                continue;
            }
            let kind = match (queued, state.engine.is_blocked(execution)) {
                (false, _) => 0,
                (true, true) => 1,
                (true, false) if attempt.due > now => 2,
                (true, false) => 3,
            };
            let since = attempt.created();
            let target = step.target.as_str();
            lines.push(Line { execution, state: attempt.state(), since, followers, kind, target, text });
        }
        match sort {
            "since" => lines.sort_by_key(|line| line.since),
            "target" => lines.sort_by_key(|line| line.target),
            "waiting" => lines.sort_by_key(|line| std::cmp::Reverse(line.followers)),
            _ => lines.sort_by_key(|line| line.kind),
        }
        if get.reverse {
            lines.reverse();
        }
        let found = Found::of(&lines, all, get);
        let rows = lines[found.range.clone()]
            .iter()
            .filter_map(|line| {
                let step = state.engine.live_step(line.execution.step)?;
                let reason = match line.state {
                    State::Queued => views::waiting_reason(&state, step, line.execution, step.attempts.last()?),
                    _ => format!("{} wait for this one execution", line.followers),
                };
                Some(Row::Queue(QueueGroup {
                    reason,
                    execution: line.execution,
                    target: step.target.clone(),
                    arguments: views::short_arguments(step),
                    state: line.state,
                    since: line.since,
                    followers: line.followers,
                }))
            })
            .collect();
        Ok(found.rows(rows, &SORTS, Head::None))
    }
}
