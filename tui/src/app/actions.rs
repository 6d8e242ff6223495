//! One registry of actions: what can be done, by which keys, where. It feeds the key bar, the help, the
//! palette and the configuration of keys.

/// Something that a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    NextTab,
    PreviousTab,
    ScreenRuns,
    ScreenRun,
    ScreenQueue,
    ScreenCache,
    ScreenWorkers,
    ScreenDaemon,
    WhereIWas,
    Filter,
    NextMatch,
    PreviousMatch,
    NextFailure,
    PreviousFailure,
    Sort,
    Inverse,
    Follow,
    Pause,
    Wrap,
    Times,
    Stream,
    GoSource,
    GoWaiters,
    GoCaller,
    GoKey,
    GoLog,
    Explain,
    Compare,
    Mark,
    Rerun,
    Cancel,
    Forget,
    Pin,
    Undo,
    Start,
    Sensors,
    Environments,
    CopyId,
    CopyKey,
    CopyArguments,
    CopyResult,
    CopyCommand,
    Where,
    Mouse,
    Palette,
    Help,
    Suspend,
    Quit,
}

/// Where an action means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Everywhere,
    /// On a list that the daemon sorts.
    Lists,
    /// On the screen of a run.
    Run,
    /// Where a log is shown.
    Log,
    /// Where keys of the cache are shown, or steps that have one.
    Keys,
}

/// An action with its keys and words.
pub struct Entry {
    pub action: Action,
    /// How the configuration names it.
    pub name: &'static str,
    /// Each is one key or a chord of two.
    pub keys: &'static [&'static str],
    pub place: Place,
    pub words: &'static str,
    /// In the key bar: the shortest name; empty if it is not shown there.
    pub bar: &'static str,
}

const fn entry(
    action: Action,
    name: &'static str,
    keys: &'static [&'static str],
    place: Place,
    words: &'static str,
    bar: &'static str,
) -> Entry {
    Entry { action, name, keys, place, words, bar }
}

/// All of them, in the order of the help.
pub const ALL: &[Entry] = &[
    entry(Action::Open, "open", &["enter"], Place::Everywhere, "open what is selected", "open"),
    entry(Action::Down, "down", &["j", "down"], Place::Everywhere, "next row", ""),
    entry(Action::Up, "up", &["k", "up"], Place::Everywhere, "previous row", ""),
    entry(Action::Top, "top", &["gg", "home"], Place::Everywhere, "first row", ""),
    entry(Action::Bottom, "bottom", &["G", "end"], Place::Everywhere, "last row; a log is followed from there", ""),
    entry(Action::HalfPageDown, "page_down", &["^d", "pgdn"], Place::Everywhere, "half a page down", ""),
    entry(Action::HalfPageUp, "page_up", &["^u", "pgup"], Place::Everywhere, "half a page up", ""),
    entry(Action::Fold, "fold", &["h", "left"], Place::Run, "fold what a step called", ""),
    entry(Action::Unfold, "unfold", &["l", "right"], Place::Run, "unfold it", ""),
    entry(Action::GoSource, "go_source", &["gf"], Place::Keys, "go to the execution whose work it is", "source"),
    entry(Action::GoWaiters, "go_waiters", &["gF"], Place::Keys, "who joined it or took its result", "waiters"),
    entry(Action::GoKey, "go_key", &["gk"], Place::Keys, "go to its key: all that ran, joined and took it", "key"),
    entry(Action::GoCaller, "go_caller", &["gp"], Place::Run, "go to its caller", ""),
    entry(Action::GoLog, "go_log", &["gl"], Place::Run, "go to its log", ""),
    entry(Action::WhereIWas, "where_i_was", &["-"], Place::Everywhere, "back to where you were", "back"),
    entry(Action::Explain, "explain", &["e"], Place::Everywhere, "why it ran, joined or took a result", "explain"),
    entry(
        Action::Compare,
        "compare",
        &["d"],
        Place::Everywhere,
        "what differs: two marked, or this and its nearest",
        "diff",
    ),
    entry(Action::Mark, "mark", &["space", "v"], Place::Everywhere, "mark it, for a comparison", ""),
    entry(Action::Rerun, "rerun", &["r"], Place::Everywhere, "run it again", "re-run"),
    entry(Action::Cancel, "cancel", &["x"], Place::Everywhere, "cancel it", "cancel"),
    entry(
        Action::Start,
        "start",
        &["R"],
        Place::Everywhere,
        "start a workflow: choose it and fill in its arguments",
        "start",
    ),
    entry(
        Action::Sensors,
        "sensors",
        &["S"],
        Place::Everywhere,
        "sensors: which are kept running, start, stop",
        "sensors",
    ),
    entry(
        Action::Environments,
        "environments",
        &["E"],
        Place::Everywhere,
        "show one project and environment, or all",
        "",
    ),
    entry(Action::Forget, "forget", &["X"], Place::Keys, "forget a key's results; their records stay", ""),
    entry(
        Action::Pin,
        "pin",
        &["P"],
        Place::Keys,
        "pin a key's results, so that pruning leaves them; again unpins",
        "",
    ),
    entry(Action::Undo, "undo", &["z"], Place::Everywhere, "undo what was forgotten, pinned or filtered last", ""),
    entry(Action::CopyId, "copy_id", &["yy", "yi"], Place::Everywhere, "copy the id", ""),
    entry(Action::CopyKey, "copy_key", &["yk"], Place::Keys, "copy the cache key", ""),
    entry(Action::CopyArguments, "copy_arguments", &["ya"], Place::Run, "copy the arguments", ""),
    entry(Action::CopyResult, "copy_result", &["yr"], Place::Run, "copy the result", ""),
    entry(Action::CopyCommand, "copy_command", &["yc"], Place::Everywhere, "copy the command that shows the same", ""),
    entry(Action::Where, "where", &[], Place::Everywhere, "where: say the command that shows the same", ""),
    entry(Action::Palette, "palette", &[":"], Place::Everywhere, "find an action by its words", ""),
    entry(
        Action::Filter,
        "filter",
        &["/"],
        Place::Everywhere,
        "show only what matches: words, state:failed age:<1h key:9f3 target:fetch; in a log: search",
        "filter",
    ),
    entry(Action::NextMatch, "next_match", &["n"], Place::Everywhere, "next place with the text searched for", ""),
    entry(Action::PreviousMatch, "previous_match", &["N"], Place::Everywhere, "previous place with it", ""),
    entry(Action::NextFailure, "next_failure", &["}"], Place::Everywhere, "next failure", "next ✗"),
    entry(Action::PreviousFailure, "previous_failure", &["{"], Place::Everywhere, "previous failure", ""),
    entry(Action::Sort, "sort", &["s"], Place::Lists, "sort by the next column", ""),
    entry(Action::Inverse, "inverse", &["I"], Place::Lists, "turn the order around", ""),
    entry(Action::Pause, "pause", &["p"], Place::Everywhere, "hold changes back, or show them again", ""),
    entry(Action::Follow, "follow", &["f"], Place::Log, "follow the log, or stay", "follow"),
    entry(Action::Wrap, "wrap", &["w"], Place::Log, "wrap long lines, or cut them", "wrap"),
    entry(Action::Times, "times", &["t"], Place::Log, "times: of day, since the start, none", "times"),
    entry(Action::Stream, "stream", &["O"], Place::Log, "the same log as a plain stream, and back", "stream"),
    entry(Action::Pane, "pane", &["tab"], Place::Run, "next pane: tree, inspector, log", ""),
    entry(Action::NextTab, "next_tab", &["]"], Place::Run, "next tab: tree, log, key, graph", ""),
    entry(Action::PreviousTab, "previous_tab", &["["], Place::Run, "previous tab", ""),
    entry(Action::ScreenRuns, "runs", &["1"], Place::Everywhere, "all runs", ""),
    entry(Action::ScreenRun, "run", &["2"], Place::Everywhere, "the run looked at last", ""),
    entry(Action::ScreenQueue, "queue", &["3"], Place::Everywhere, "what waits, and for what", ""),
    entry(Action::ScreenCache, "cache", &["4"], Place::Everywhere, "what is remembered, by namespace and key", ""),
    entry(Action::ScreenWorkers, "workers", &["5"], Place::Everywhere, "worker processes", ""),
    entry(Action::ScreenDaemon, "daemon", &["6"], Place::Everywhere, "the daemon and its store", ""),
    entry(Action::Mouse, "mouse", &[], Place::Everywhere, "mouse: use it here, or leave it to the terminal", ""),
    entry(Action::Help, "help", &["?"], Place::Everywhere, "these keys", "keys"),
    entry(Action::Close, "close", &["esc"], Place::Everywhere, "close, or clear the filter", ""),
    entry(Action::Back, "back", &["q"], Place::Everywhere, "back; from the runs it leaves (work goes on)", "quit"),
    entry(Action::Suspend, "suspend", &["^z"], Place::Everywhere, "suspend", ""),
    entry(Action::Quit, "quit", &["^c"], Place::Everywhere, "leave at once (work goes on)", ""),
];

/// What keys typed so far come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Match {
    Action(Action),
    /// The start of a chord.
    Partial,
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_actions_share_a_key_or_a_name() {
        let mut keys: Vec<_> = ALL.iter().flat_map(|entry| entry.keys).collect();
        let mut names: Vec<_> = ALL.iter().map(|entry| entry.name).collect();
        let counts = (keys.len(), names.len());
        keys.sort_unstable();
        keys.dedup();
        names.sort_unstable();
        names.dedup();
        assert_eq!((keys.len(), names.len()), counts);
    }
}
