//! A step's life as a bar: `▒` its own queue time, `█` its own run time, `┄` waiting for another's
//! work, `=` a result taken at once.

use ibid::model::State;
use ibid::protocol::StepView;

/// A filled part of a column: how far an execution has come.
pub fn part(done: f64, width: usize, ascii: bool) -> String {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of characters from a part between 0 and 1"
    )]
    let filled = ((done.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    let (full, empty) = if ascii { ('#', '.') } else { ('█', '░') };
    let cells = std::iter::repeat_n(full, filled).chain(std::iter::repeat_n(empty, width - filled));
    cells.collect()
}

/// The bar of a step in a column of `width` characters that spans `from` to `to` (ms since 1970).
pub fn bar(step: &StepView, from: i64, to: i64, width: usize, ascii: bool) -> String {
    let mut cells = vec![' '; width];
    let span = (to - from).max(1);
    let cell = |at: i64| {
        let passed = (at - from).clamp(0, span);
        let place = i128::from(passed) * i128::try_from(width).unwrap_or(0) / i128::from(span);
        usize::try_from(place).unwrap_or(0).min(width.saturating_sub(1))
    };
    let [queue, run, wait] = if ascii { ['-', '#', '.'] } else { ['▒', '█', '┄'] };
    let mut fill = |start: i64, end: i64, glyph: char| {
        if width > 0 {
            for slot in &mut cells[cell(start)..=cell(end)] {
                *slot = glyph;
            }
        }
    };
    for attempt in &step.attempts {
        let end = attempt.ended.unwrap_or(to);
        match (attempt.state, attempt.started) {
            (State::Cached, _) if attempt.leader.is_none() => fill(attempt.created, attempt.created, '='),
            (State::Cached | State::Linked | State::Spawned | State::Deferred, _) => fill(attempt.created, end, wait),
            (_, Some(started)) => {
                fill(attempt.created, started, queue);
                fill(started, end, run);
            }
            (State::Failed | State::Cancelled | State::TimedOut | State::Abandoned, None) => {
                fill(attempt.created, end, wait)
            }
            (_, None) => fill(attempt.created, end, queue),
        }
    }
    cells.into_iter().collect()
}
