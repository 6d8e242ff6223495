//! One registry of actions: what can be done, by which keys, where. It feeds the key bar and the help.

/// Something that a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Down,
    Up,
    Top,
    Bottom,
    HalfPageDown,
    HalfPageUp,
    Fold,
    Unfold,
    Open,
    Close,
    Back,
    Pane,
    ScreenRuns,
    ScreenRun,
    ScreenQueue,
    ScreenCache,
    ScreenWorkers,
    ScreenDaemon,
    WhereIWas,
    Filter,
    NextFailure,
    PreviousFailure,
    GoSource,
    GoWaiters,
    GoCaller,
    Explain,
    Rerun,
    Cancel,
    Sensors,
    CopyId,
    CopyKey,
    CopyArguments,
    CopyResult,
    CopyCommand,
    Palette,
    Help,
    Suspend,
    Quit,
}

/// Where an action means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Everywhere,
    Run,
}

/// An action with its keys and words.
pub struct Entry {
    pub action: Action,
    /// Each is one key or a chord of two.
    pub keys: &'static [&'static str],
    pub place: Place,
    pub words: &'static str,
    /// In the key bar: the shortest name; empty if it is not shown there.
    pub bar: &'static str,
}

const fn entry(
    action: Action,
    keys: &'static [&'static str],
    place: Place,
    words: &'static str,
    bar: &'static str,
) -> Entry {
    Entry { action, keys, place, words, bar }
}

/// All of them, in the order of the help.
pub const ALL: &[Entry] = &[
    entry(Action::Open, &["enter"], Place::Everywhere, "open what is selected", "open"),
    entry(Action::Down, &["j", "down"], Place::Everywhere, "next row", ""),
    entry(Action::Up, &["k", "up"], Place::Everywhere, "previous row", ""),
    entry(Action::Top, &["gg", "home"], Place::Everywhere, "first row", ""),
    entry(Action::Bottom, &["G", "end"], Place::Everywhere, "last row", ""),
    entry(Action::HalfPageDown, &["^d", "pgdn"], Place::Everywhere, "half a page down", ""),
    entry(Action::HalfPageUp, &["^u", "pgup"], Place::Everywhere, "half a page up", ""),
    entry(Action::Fold, &["h", "left"], Place::Run, "fold what a step called", ""),
    entry(Action::Unfold, &["l", "right"], Place::Run, "unfold it", ""),
    entry(Action::GoSource, &["gf"], Place::Run, "go to the execution whose work it is", "source"),
    entry(Action::GoWaiters, &["gF"], Place::Run, "who joined it or took its result", "waiters"),
    entry(Action::GoCaller, &["gp"], Place::Run, "go to its caller", ""),
    entry(Action::WhereIWas, &["-"], Place::Everywhere, "back to where you were", "back"),
    entry(Action::Explain, &["e"], Place::Everywhere, "why it ran, joined or took a result", "explain"),
    entry(Action::Rerun, &["r"], Place::Everywhere, "run it again", "re-run"),
    entry(Action::Cancel, &["x"], Place::Everywhere, "cancel it", "cancel"),
    entry(Action::Sensors, &["S"], Place::Everywhere, "sensors: which are kept running, start, stop", "sensors"),
    entry(Action::CopyId, &["yy", "yi"], Place::Everywhere, "copy the id", ""),
    entry(Action::CopyKey, &["yk"], Place::Run, "copy the cache key", ""),
    entry(Action::CopyArguments, &["ya"], Place::Run, "copy the arguments", ""),
    entry(Action::CopyResult, &["yr"], Place::Run, "copy the result", ""),
    entry(Action::CopyCommand, &["yc"], Place::Everywhere, "copy the command that shows the same", ""),
    entry(Action::Palette, &[":"], Place::Everywhere, "find an action by its words", ""),
    entry(Action::Filter, &["/"], Place::Everywhere, "show only what matches (words, state:failed)", "filter"),
    entry(Action::NextFailure, &["}"], Place::Everywhere, "next failure", "next ✗"),
    entry(Action::PreviousFailure, &["{"], Place::Everywhere, "previous failure", ""),
    entry(Action::Pane, &["tab"], Place::Run, "next pane: tree, inspector, log", ""),
    entry(Action::ScreenRuns, &["1"], Place::Everywhere, "all runs", ""),
    entry(Action::ScreenRun, &["2"], Place::Everywhere, "the run looked at last", ""),
    entry(Action::ScreenQueue, &["3"], Place::Everywhere, "what waits, and for what", ""),
    entry(Action::ScreenCache, &["4"], Place::Everywhere, "what is remembered, by namespace and key", ""),
    entry(Action::ScreenWorkers, &["5"], Place::Everywhere, "worker processes", ""),
    entry(Action::ScreenDaemon, &["6"], Place::Everywhere, "the daemon and its store", ""),
    entry(Action::Help, &["?"], Place::Everywhere, "these keys", "keys"),
    entry(Action::Close, &["esc"], Place::Everywhere, "close, or clear the filter", ""),
    entry(Action::Back, &["q"], Place::Everywhere, "back; from the runs it leaves (work goes on)", "quit"),
    entry(Action::Suspend, &["^z"], Place::Everywhere, "suspend", ""),
    entry(Action::Quit, &["^c"], Place::Everywhere, "leave at once (work goes on)", ""),
];

/// What keys typed so far come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Match {
    Action(Action),
    /// The start of a chord.
    Partial,
    None,
}

/// Finds the action of a key or chord.
pub fn find(keys: &str, on_run: bool) -> Match {
    let here = |place: Place| match place {
        Place::Everywhere => true,
        Place::Run => on_run,
    };
    let mut partial = false;
    for entry in ALL.iter().filter(|entry| here(entry.place)) {
        for key in entry.keys {
            if *key == keys {
                return Match::Action(entry.action);
            }
            let is_chord = key.chars().count() == 2 && !key.starts_with('^');
            partial |= is_chord && key.starts_with(keys);
        }
    }
    if partial { Match::Partial } else { Match::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_actions_share_a_key() {
        let mut keys: Vec<_> = ALL.iter().flat_map(|entry| entry.keys).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn chords_begin_with_a_key_that_does_nothing_by_itself() {
        assert_eq!(find("g", true), Match::Partial);
        assert_eq!(find("gf", true), Match::Action(Action::GoSource));
        assert_eq!(find("gx", true), Match::None);
        assert_eq!(find("e", false), Match::Action(Action::Explain));
        assert_eq!(find("en", false), Match::None);
    }
}
