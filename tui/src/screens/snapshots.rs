//! Every screen as it looks, at several sizes and in every kind of colour, kept beside and compared.

use std::fmt::Write as _;

use ibid::model::{Id, State};
use ibid::protocol::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::draw;
use super::samples::{
    NOW, STATES, compared, execution, explained, key_window, list, model, on_run, run, runs, starting, step, step_id,
};
use crate::app::model::{Link, Model, Overlay, Pane, Screen, Tab};
use crate::app::window::Window;
use crate::widgets::style::Colours;

/// What stands on the screen; in colour with a second part that says which cells have which.
fn drawn(model: &Model) -> String {
    let (width, height) = model.size;
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content.chunks(usize::from(width)) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        let _infallible = writeln!(text, "{}", line.trim_end());
    }
    if model.colour == Colours::None {
        return text;
    }
    text.push_str("--- hues\n");
    for row in buffer.content.chunks(usize::from(width)) {
        let line: String = row
            .iter()
            .map(|cell| match (cell.fg, cell.modifier.contains(Modifier::REVERSED)) {
                (_, true) => '#',
                (Color::Blue, _) => 'b',
                (Color::Green, _) => 'g',
                (Color::Magenta, _) => 'm',
                (Color::Red, _) => 'r',
                (Color::Yellow, _) => 'y',
                _ => ' ',
            })
            .collect();
        let _infallible = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Compares a screen at both usual sizes, in colour, without, and in ASCII.
fn compare(name: &str, make: impl Fn((u16, u16)) -> Model) {
    for size in [(120, 36), (80, 24)] {
        for (mode, colour, ascii) in
            [("colour", Colours::Terminal, false), ("no_colour", Colours::None, false), ("ascii", Colours::None, true)]
        {
            let mut model = make(size);
            (model.colour, model.ascii) = (colour, ascii);
            let text = drawn(&model);
            assert!(!ascii || text.is_ascii(), "{text}");
            insta::assert_snapshot!(format!("{name}_{}x{}_{mode}", size.0, size.1), text);
        }
    }
}

#[test]
fn the_runs() {
    compare("runs", runs);
}

#[test]
fn a_run_with_a_linked_step() {
    compare("run", |size| on_run(size, 9));
}

#[test]
fn a_run_with_a_group() {
    compare("run_group", |size| on_run(size, 1));
}

#[test]
fn the_tabs_of_a_run() {
    compare("run_log", |size| Model { tab: Tab::Log, wrap: true, ..on_run(size, 9) });
    compare("run_step", |size| Model { pane: Pane::Inspector, ..on_run(size, 3) });
    compare("run_key", |size| Model { tab: Tab::Key, key: key_window(), ..on_run(size, 9) });
    compare("run_graph", |size| {
        let mut model = Model { tab: Tab::Graph, ..on_run(size, 9) };
        let step = step(9, State::Linked);
        let execution = step.attempts[0].clone();
        let children = vec![self::step(3, State::Running)];
        let borrowers = vec![self::execution(43, 2)];
        let run = run(41, State::Running);
        model.graph = Some(Box::new(Shown { run, step, execution, children, borrowers }));
        model
    });
}

#[test]
fn the_lists() {
    compare("queue", |size| list(size, Screen::Queue));
    compare("namespaces", |size| list(size, Screen::Namespaces));
    compare("keys", |size| list(size, Screen::Keys("etl:fetch_page".to_owned())));
    compare("key", |size| list(size, Screen::Key("9f3a1c0d".repeat(8))));
    compare("workers", |size| list(size, Screen::Workers));
    compare("daemon", |size| list(size, Screen::Daemon));
}

#[test]
fn what_stands_in_front() {
    compare("explain", explained);
    compare("compare", compared);
    compare("start", starting);
    compare("rerun", |size| {
        let prospect = Prospect { runs: 3, hits: 9, spent: 41_000, cut: false };
        let predicted = Predicted { forced: prospect.clone(), below: prospect.clone(), again: prospect };
        Model { overlay: Some(Overlay::Rerun { step: step_id(4), predicted: Some(predicted) }), ..on_run(size, 4) }
    });
    compare("cancel", |size| Model {
        overlay: Some(Overlay::Cancel { id: Id::Step(step_id(3)), others: 7 }),
        ..on_run(size, 4)
    });
    compare("help", |size| Model {
        overlay: Some(Overlay::Help { typed: String::new(), selected: 0 }),
        ..on_run(size, 4)
    });
}

#[test]
fn an_empty_daemon_and_one_that_is_away() {
    compare("empty", |size| {
        let mut model = runs(size);
        model.main = Window { known: true, ..Window::over(List::Runs { scope: None }) };
        model
    });
    compare("lost", |size| Model { link: Link::Lost(NOW - 3000, "gone".to_owned()), ..runs(size) });
    compare("wrong", |size| {
        let mut model = model(size);
        model.link = Link::Wrong("the daemon speaks version 2 of the protocol and this program version 3: restart it with 'ibid daemon restart'".to_owned());
        model
    });
}

#[test]
fn the_tree_at_every_size() {
    for size in [(20, 6), (34, 10), (60, 20), (200, 60)] {
        let model = Model { colour: Colours::None, ..on_run(size, 9) };
        insta::assert_snapshot!(format!("run_{}x{}", size.0, size.1), drawn(&model));
    }
}

/// How long a frame takes: `cargo test --release -p ibid-tui frames -- --ignored --nocapture`.
#[test]
#[ignore = "it measures, and judges nothing"]
fn frames() {
    for (size, rows) in [((120, 36), 1000), ((120, 36), 1_000_000), ((200, 60), 1000), ((200, 60), 1_000_000)] {
        let mut model = on_run(size, 9);
        // A window holds a few hundred rows of however many there are.
        let step = model.main.rows[3].clone();
        model.main.rows = (0..300).map(|_| step.clone()).collect();
        model.main.total = rows;
        model.main.first = rows - 300;
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        let mut samples = Vec::new();
        for frame in 0..2000 {
            model.main.offset = rows - 300 + frame % 200;
            model.main.index = model.main.offset + 5;
            let begun = std::time::Instant::now();
            terminal.draw(|frame| draw::draw(frame, &model)).unwrap();
            samples.push(begun.elapsed());
        }
        samples.sort_unstable();
        println!("{size:?}, {rows} rows: p50 {:?}, p99 {:?}", samples[1000], samples[1980]);
    }
}

/// Every size that a terminal can have, on every screen: nothing panics, nothing is drawn beside it.
#[test]
fn no_size_is_too_small_or_too_large() {
    let screens: [fn((u16, u16)) -> Model; 6] = [
        runs,
        |size| on_run(size, 9),
        |size| list(size, Screen::Key("9f".to_owned())),
        explained,
        starting,
        |size| Model { tab: Tab::Log, wrap: true, ..on_run(size, 9) },
    ];
    for width in (1..=130).chain([400]) {
        for height in (1..=40).chain([120]).filter(|height| (width + height) % 3 == 0 || width < 30) {
            let model = screens[usize::from((width + height) % 6)]((width, height));
            let text = drawn(&model);
            assert!(text.lines().all(|line| line.chars().count() <= usize::from(width).max(8)));
        }
    }
}

/// The nine states of the plan differ without any colour, also in ASCII.
#[test]
fn states_differ_by_shape_alone() {
    let shapes = |ascii| {
        let told = STATES.map(|state| (crate::app::steps::glyph(state, ascii), state.name()));
        let mut all: Vec<_> = told.iter().map(|(glyph, _)| *glyph).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    };
    // A time-out is a failure with its own word; a run in progress looks like what runs in ASCII.
    assert_eq!((shapes(false), shapes(true)), (10, 9));
}
