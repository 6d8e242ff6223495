//! Models as they are after a day of work, to draw.

use ibid::model::{
    CallOptions, Counts, Decision, ExecutionId, Failure, Json, Miss, RunId, State, StepId, TargetKind, Trigger,
};
use ibid::protocol::*;

use crate::app::form::Form;
use crate::app::model::{Link, Model, Overlay, Screen};
use crate::app::window::Window;

pub(super) const NOW: i64 = 1_763_000_000_000;

pub(super) const STATES: [State; 11] = State::ALL;

pub(super) fn step_id(step: u32) -> StepId {
    StepId { run: RunId(41), step }
}

pub(super) fn execution(run: u64, step: u32) -> ExecutionId {
    StepId { run: RunId(run), step }.attempt(1)
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn attempt(id: ExecutionId, state: State) -> AttemptView {
    let over = state.is_final();
    let ran = !matches!(state, State::Queued | State::Linked | State::Cached | State::Deferred | State::Spawned);
    AttemptView {
        id,
        state,
        detail: match state {
            State::Queued => "retry in 4 s".to_owned(),
            State::Running => "on w-2".to_owned(),
            State::Linked => "joined R39:4.1".to_owned(),
            State::Failed => "ValueError: no such page".to_owned(),
            _ => String::new(),
        },
        trigger: Trigger::Call,
        decision_kind: "no_match".to_owned(),
        decision: match state {
            State::Cached => Decision::Hit { source: execution(12, 3), age: 7_200_000, duration: 28_000 },
            State::Linked => Decision::Linked { leader: execution(39, 4) },
            _ => Decision::Miss(Miss::NoMatch),
        },
        leader: (state == State::Linked).then(|| execution(39, 4)),
        source: (state == State::Cached).then(|| execution(12, 3)),
        source_environment: None,
        run: (state == State::Spawned).then_some(RunId(42)),
        successor: (state == State::Deferred).then(|| execution(42, 9)),
        created: NOW - 30_000,
        due: NOW - 30_000,
        started: ran.then_some(NOW - 28_000),
        ended: over.then_some(NOW - 9000),
        duration: (over && ran).then_some(19_000),
        transitions: Vec::new(),
        result: (state == State::Succeeded).then(|| ValueView { value: Some(json("{\"words\":1204}")), size: 14 }),
        error: (state == State::Failed).then(|| Failure::new("ValueError", "no such page")),
        worker: ran.then_some(2),
        followers: if state == State::Running { vec![execution(43, 2), execution(44, 2)] } else { Vec::new() },
        superseded: Vec::new(),
        waiting_on: Vec::new(),
        blocked_by: Vec::new(),
        progress: Vec::new(),
        metrics: Vec::new(),
        withdrawn: false,
    }
}

pub(super) fn step(number: u32, state: State) -> StepView {
    let root = number == 1;
    StepView {
        id: step_id(number),
        target: if root { "etl/nightly_report" } else { "etl/fetch_page" }.to_owned(),
        kind: if root { TargetKind::Workflow } else { TargetKind::Task },
        state,
        arguments: vec![ArgumentView {
            name: "page".to_owned(),
            value: ValueView { value: Some(json(&format!("\"page {number}\""))), size: 8 },
        }],
        options: CallOptions::default(),
        namespace: "etl:fetch_page".to_owned(),
        key: (!root).then(|| "9f3a1c0d".repeat(8)),
        caller: (!root).then(|| step_id(1).attempt(1)),
        group: None,
        memo_hits: 0,
        memo_callers: Vec::new(),
        attempts: vec![attempt(step_id(number).attempt(1), state)],
    }
}

pub(super) fn run(number: u64, state: State) -> RunView {
    let counts =
        Counts { steps: 20, running: 2, linked: 3, ran: 8, cached: 5, failed: 1, saved: 370_000, ..Counts::default() };
    RunView {
        id: RunId(number),
        project: "news".to_owned(),
        environment: "production".to_owned(),
        target: "etl/nightly_report".to_owned(),
        state,
        created: NOW - 41_000 - 3_600_000 * i64::try_from(41_u64.saturating_sub(number)).unwrap(),
        begun: NOW - 41_000 - 3_600_000 * i64::try_from(41_u64.saturating_sub(number)).unwrap(),
        ended: state
            .is_final()
            .then_some(NOW - 1000 - 3_600_000 * i64::try_from(41_u64.saturating_sub(number)).unwrap()),
        caller: None,
        counts,
    }
}

fn stats() -> Stats {
    Stats {
        version: "0.1.0".to_owned(),
        pid: 4121,
        started: NOW - 86_400_000,
        start_took: 84,
        data_dir: "/home/ada/.local/share/ibid".to_owned(),
        socket: "/run/user/1000/ibid.sock".to_owned(),
        runs: 41,
        queued: 12,
        running: 4,
        linked: 38,
        leaders: 9,
        targets: 7,
        borrowed: 812,
        executed: 190,
        saved: 11_520_000,
        disk_bytes: 48_000_000,
        memory_bytes: 30_000_000,
        turns: 5120,
        stopping: false,
    }
}

fn filled(rows: Vec<Row>, head: Head) -> Window {
    let total = rows.len() as u64;
    let selected = rows.first().map(Row::key).unwrap_or_default();
    Window { rows, total, all: total, head, known: true, selected, list: Some(List::Queue {}), ..Window::default() }
}

pub(super) fn model(size: (u16, u16)) -> Model {
    let mut model = Model::new(size, NOW);
    model.link = Link::Connected;
    model.stats = Some(stats());
    model
}

pub(super) fn runs(size: (u16, u16)) -> Model {
    let mut model = model(size);
    let states = [State::Running, State::Failed, State::Succeeded, State::Cancelled, State::Abandoned];
    let rows = (37..=41).rev().zip(states).map(|(number, state)| Row::Run(run(number, state))).collect();
    model.main = filled(rows, Head::None);
    model.main.list = Some(List::Runs { scope: None });
    model
}

pub(super) fn on_run(size: (u16, u16), selected: u64) -> Model {
    let mut model = model(size);
    model.screen = Screen::Run(RunId(41));
    let mut rows = vec![Row::Step(Box::new(TreeStep {
        step: step(1, State::Running),
        branches: String::new(),
        has_children: true,
    }))];
    rows.push(Row::Group(TreeGroup {
        name: "pages".to_owned(),
        first: step_id(30),
        caller: Some(step_id(1)),
        calls: 12,
        states: vec![(State::Running, 1), (State::Succeeded, 3), (State::Linked, 3), (State::Cached, 5)],
        spent: 41_000,
        branches: "├".to_owned(),
        unfolded: false,
    }));
    for (number, state) in (2..).zip(STATES) {
        let branches = if state == State::Deferred { "└" } else { "├" }.to_owned();
        rows.push(Row::Step(Box::new(TreeStep { step: step(number, state), branches, has_children: false })));
    }
    model.main = filled(rows, Head::Run { run: Box::new(run(41, State::Running)), folds: Folds::default() });
    model.main.index = selected;
    model.main.selected = model.main.rows[usize::try_from(selected).unwrap()].key();
    model.looked_at = model.selected_step().map(|step| step.id);
    let text = [
        ("info", "GET /wiki/Rust", "etag", "\"77\""),
        ("warning", "slow upstream, retry 1", "status", "503"),
        ("stdout", "\u{1b}[32mgreen\u{1b}[0m and \u{1b}[2Jplain", "", ""),
        (
            "error",
            "a very long line that goes on and on, well beyond what a narrow pane has room for, and then some more of it",
            "",
            "",
        ),
    ];
    let lines = (0..).zip(text).map(|(number, (level, text, name, value))| {
        let values = if name.is_empty() { Vec::new() } else { vec![(name.to_owned(), json(value))] };
        Row::Line(NumberedLine {
            number,
            line: LogLine {
                at: NOW - 20_000 + i64::try_from(number).unwrap() * 700,
                level: level.to_owned(),
                text: text.to_owned(),
                values,
                execution: Some(execution(39, 4)),
            },
        })
    });
    model.log = filled(lines.collect(), Head::Log { execution: execution(39, 4), dropped: 0 });
    model.log.index = 3;
    model.log.at_end = true;
    model
}

pub(super) fn key_window() -> Window {
    let rows = [
        (execution(43, 2), State::Linked, None, "waits for R39:4.1"),
        (execution(39, 4), State::Running, None, "does the work, 7 wait for it"),
        (execution(38, 4), State::Failed, Some(30_000), "TimeoutError"),
        (execution(37, 4), State::Cached, None, "took R31:4.1, saved 28 s"),
        (execution(31, 4), State::Succeeded, Some(28_000), "would be taken now, 16 h 49 m old"),
    ];
    let rows = rows.map(|(execution, state, duration, note)| {
        Row::Execution(KeyExecution {
            execution,
            state,
            run: "etl/nightly_report".to_owned(),
            created: NOW - 60_000,
            duration,
            link: None,
            note: note.to_owned(),
        })
    });
    let summary = KeySummary {
        key: "9f3a1c0d".repeat(8),
        namespace: "etl:fetch_page".to_owned(),
        version: Some("3".to_owned()),
        target: "etl/fetch_page".to_owned(),
        arguments: "Rust, en".to_owned(),
        usable: Some(execution(31, 4)),
        completed: Some(NOW - 60_540_000),
        unfinished: Some(execution(39, 4)),
        followers: 7,
        pinned: true,
        forgotten: false,
    };
    filled(rows.into(), Head::Key(Box::new(summary)))
}

pub(super) fn list(size: (u16, u16), screen: Screen) -> Model {
    let mut model = model(size);
    let key_line = |number: u32, state| KeyLine {
        key: format!("{number:08x}").repeat(8),
        execution: execution(30, number),
        state,
        target: "etl/fetch_page".to_owned(),
        arguments: format!("page {number}, en"),
        created: NOW - 600_000,
        duration: Some(1200),
    };
    let rows: Vec<Row> = match &screen {
        Screen::Queue => [("5 wait for this one execution", State::Running, 5), ("due in 3 m", State::Queued, 0)]
            .into_iter()
            .zip(4..)
            .map(|((reason, state, followers), number)| {
                Row::Queue(QueueGroup {
                    reason: reason.to_owned(),
                    execution: execution(41, number),
                    target: "etl/fetch_page".to_owned(),
                    arguments: "Rust".to_owned(),
                    state,
                    since: NOW - 12_000,
                    followers,
                })
            })
            .collect(),
        Screen::Namespaces => ["etl:fetch_page", "etl:parse"]
            .map(|name| {
                Row::Namespace(NamespaceView {
                    namespace: name.to_owned(),
                    executed: 1210,
                    failed: 3,
                    hits: 8123,
                    links: 41,
                    saved: 7_200_000,
                    bytes: 1_200_000,
                    last_used: NOW - 4000,
                })
            })
            .into(),
        Screen::Keys(_) => {
            [(1, State::Succeeded, true, false), (2, State::Failed, false, false), (3, State::Succeeded, false, true)]
                .map(|(number, state, pinned, forgotten)| {
                    Row::Key(KeyUse {
                        line: key_line(number, state),
                        executed: 2,
                        hits: 17,
                        saved: 20_400,
                        used: NOW - 4000,
                        size: 184_220,
                        pinned,
                        forgotten,
                    })
                })
                .into()
        }
        _ => Vec::new(),
    };
    model.screen = screen;
    model.main = filled(rows, Head::None);
    match model.screen {
        Screen::Key(_) => model.main = key_window(),
        Screen::Workers => {
            model.main = Window::default();
            model.workers_known = true;
            model.workers = vec![WorkerView {
                worker: 2,
                repository: "etl".to_owned(),
                role: "executor".to_owned(),
                pid: Some(4130),
                state: "busy".to_owned(),
                executions: vec![execution(39, 4)],
                finished: 41,
                started: NOW - 60_000,
            }];
        }
        Screen::Daemon => model.main = Window::default(),
        _ => {}
    }
    model
}

pub(super) fn explained(size: (u16, u16)) -> Model {
    let mut model = on_run(size, 4);
    let fact = |name: &str, text: &str| Fact { name: name.to_owned(), text: text.to_owned(), id: None };
    model.overlay = Some(Overlay::Explain {
        explanation: Box::new(Explanation {
            execution: execution(44, 9),
            kind: "no_match".to_owned(),
            sentence: "R44:9.1 ran because its argument doc differs from that of the nearest earlier call, R37:9: 183,902 B → 184,220 B.".to_owned(),
            facts: vec![fact("nearest", "R37:9"), fact("doc", "sha 51c0 → sha e77a"), fact("target", "etl/parse")],
            would_hit: Some("would hit with cache=17h, for etl/fetch_page".to_owned()),
            causes: vec![
                fact("argument doc", "is the result of R44:7, which has that of R39:4.1; in R37:9 it was that of R31:4.1"),
                fact("because", "R39:4.1 ran because the result of R31:4.1 was 16 h 49 m old and at most 12 h is accepted."),
            ],
            decision: Decision::Miss(Miss::NoMatch),
        }),
        scroll: 0,
    });
    model
}

pub(super) fn compared(size: (u16, u16)) -> Model {
    let mut model = on_run(size, 4);
    let part = |name: &str, equal: bool, one: &str, other: &str, changes: &[&str]| ComparedPart {
        name: name.to_owned(),
        equal,
        in_key: name != "time",
        one: one.to_owned(),
        other: other.to_owned(),
        changes: changes.iter().map(|change| (*change).to_owned()).collect(),
    };
    model.overlay = Some(Overlay::Compare {
        comparison: Box::new(Comparison {
            one: execution(37, 9),
            other: execution(44, 9),
            parts: vec![
                part("target", true, "etl/parse", "etl/parse", &[]),
                part("version", true, "3", "3", &[]),
                part(
                    "argument doc",
                    false,
                    "{…} 180 KiB",
                    "{…} 180 KiB",
                    &["title - \"Rust\"", "title + \"Rust (language)\""],
                ),
                part("time", false, "2.0 s", "2.4 s", &[]),
            ],
        }),
        scroll: 0,
        all: false,
    });
    model
}

pub(super) fn starting(size: (u16, u16)) -> Model {
    let mut model = runs(size);
    let parameter = |name: &str, default: Option<&str>| ibid::model::Parameter {
        name: name.to_owned(),
        kind: ibid::model::ParameterKind::PositionalOrKeyword,
        default: default.map(json),
    };
    let mut form = Form::choosing(vec![TargetView {
        target: "etl/nightly_report".to_owned(),
        kind: TargetKind::Workflow,
        parameters: vec![parameter("day", None), parameter("limit", Some("10"))],
        options: CallOptions::default(),
        own_key: false,
        doc: Some("The report of a day.".to_owned()),
        environment: "production".to_owned(),
    }]);
    form.typed = "night".to_owned();
    model.press_form(Box::new(form), "enter");
    for key in ["2", "0", "2", "6", "tab", "[", "1"] {
        model.press(key);
    }
    model
}
