//! The terminal client in a real pseudo-terminal.

use std::time::Duration;

use ibid_tests::terminal::Terminal;
use ibid_tests::{Home, eventually};

const LINKED: &str = r#"
import time
from ibid import log_info, task, workflow

@task(cache=True)
def page(n):
    log_info("fetching {n}", n=n)
    for _ in range(100):
        time.sleep(0.05)
        import os
        if os.path.exists("go"):
            break
    return n

@workflow()
def first():
    return page(1)

@workflow()
def second():
    return page(1)

@workflow()
def broken():
    raise ValueError("on purpose")
"#;

/// No line may be wider than the screen, and boxes are closed.
fn is_whole(screen: &str, columns: usize) {
    for line in screen.lines() {
        assert!(line.chars().count() <= columns, "too wide: {line}");
        if line.starts_with('│') || line.starts_with('┌') {
            assert!(line.ends_with('│') || line.ends_with('┐'), "not closed: {line:?}\n{screen}");
        }
    }
}

#[test]
fn an_empty_daemon_shows_where_to_begin_and_enter_runs_the_demo() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[]);
    let screen = terminal.wait_for("nothing has run yet");
    assert!(screen.contains("ibid register my.tasks") && screen.contains("✓ connected"), "{screen}");
    is_whole(&screen, 120);
    terminal.press("\r");
    terminal.wait_until("links", |screen| screen.contains("↪ R1:"));
    let screen = terminal.wait_until("hits where the links were", |screen| {
        screen.contains("R1 tour") && screen.contains("= fib") && !screen.contains("↪ fib")
    });
    is_whole(&screen, 120);
    terminal.press("qq");
    assert_eq!(terminal.ended(), 0);
    assert!(!terminal.on_alternate_screen());
}

#[test]
fn the_demo_at_120x36_shows_tree_bars_inspector_and_log() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut terminal = Terminal::open(&home, 120, 36, &["demo"], &[]);
    let screen = terminal.wait_until("the finished run", |screen| screen.contains("✓ SUCCEEDED"));
    for part in
        ["ibid  Runs › R1 › R1:1", "via", "time", "█", "Why (e)", "started by hand", "log of R1:1.1", "enter open"]
    {
        assert!(screen.contains(part), "{part:?} is not on the screen:\n{screen}");
    }
    is_whole(&screen, 120);
    terminal.press("G");
    terminal.press("?");
    is_whole(&terminal.wait_for("go to the execution whose work it is"), 120);
    terminal.press("\u{1b}");
    terminal.press("1");
    let screen = terminal.wait_for("runs · 2");
    assert!(screen.contains("✓ R2      ibid.demo/forecast") && screen.contains("Reused"), "{screen}");
    is_whole(&screen, 120);
}

#[test]
fn the_demo_at_80x24_shows_one_pane_at_a_time() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut terminal = Terminal::open(&home, 80, 24, &["demo"], &[]);
    let screen = terminal.wait_until("the finished tree", |screen| screen.contains("✓ tour 12"));
    assert!(screen.contains("[Tree]") && !screen.contains("Why (e)"), "{screen}");
    is_whole(&screen, 80);
    terminal.press("\t");
    is_whole(&terminal.wait_for("Why (e)"), 80);
    terminal.press("\t");
    is_whole(&terminal.wait_for("log of R1:1.1"), 80);
    terminal.press("\t");
    terminal.wait_for("[Tree]");
}

#[test]
fn a_link_leads_to_its_source_and_back_and_the_log_is_of_the_one_doing_the_work() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("web", LINKED);
    home.ok(&["submit", "web/first"]);
    eventually("the first fetches", Duration::from_secs(10), || {
        let log = home.ibid(&["logs", "R1:2"]);
        String::from_utf8_lossy(&log.stdout).contains("fetching").then_some(())
    });
    home.ok(&["submit", "web/second"]);
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[]);
    terminal.wait_for("runs · 2");
    terminal.press("\r");
    terminal.wait_for("↪ R1:2.1");
    terminal.press("j");
    let screen = terminal.wait_for("log of R1:2.1, the execution doing the work for R2:2");
    assert!(screen.contains("LINKED") && screen.contains("Doing it"), "{screen}");
    terminal.wait_for("fetching 1");
    terminal.press("gf");
    terminal.wait_for("Runs › R1 › R1:2");
    terminal.press("gF");
    terminal.wait_for("> R2:2.1");
    terminal.press("\u{1b}-");
    terminal.wait_for("Runs › R2 › R2:2");
    home.write("go", "");
    let screen = terminal.wait_until("the link becomes a result", |screen| screen.contains("= CACHED"));
    assert!(screen.contains("= R1:2.1"), "{screen}");
}

#[test]
fn a_step_is_explained_and_run_again_from_the_keyboard() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write("go", "");
    home.register("web", LINKED);
    home.ok(&["run", "web/first"]);
    home.ok(&["run", "web/second"]);
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[]);
    terminal.wait_for("runs · 2");
    terminal.press("\r");
    terminal.wait_for("= page 1");
    terminal.press("j");
    terminal.wait_for("R2:2.1 page");
    terminal.press("e");
    let screen = terminal.wait_for("explain R2:2.1 · hit");
    assert!(screen.contains("took the result of R1:2.1"), "{screen}");
    terminal.press("e");
    terminal.press("r");
    terminal.wait_for("force R2:2");
    terminal.press("f");
    terminal.wait_for("R2:2.2 runs again");
    terminal.wait_until("the forced attempt", |screen| screen.contains("R2:2.2 page") && screen.contains("SUCCEEDED"));
    assert_eq!(home.why("R2:2.2"), "forced");
    terminal.press("r");
    terminal.wait_for("start R2 again");
    terminal.press("n");
    terminal.wait_for("Runs › R3");
}

#[test]
fn failures_are_found_and_the_filter_narrows_the_list() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write("go", "");
    home.register("web", LINKED);
    home.fails(1, &["run", "web/broken"]);
    home.ok(&["run", "web/first"]);
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[]);
    terminal.wait_for("runs · 2");
    terminal.press("}");
    terminal.wait_until("the failure is selected", |screen| screen.contains("FAILED"));
    terminal.press("/broken\r");
    terminal.wait_for("runs · 1");
    terminal.press("\r");
    terminal.wait_for("ValueError: on purpose");
    terminal.press("q");
    terminal.press("/state:succeeded");
    terminal.wait_for("web/first");
    terminal.press("\u{1b}");
    terminal.wait_for("runs · 2");
}

#[test]
fn the_daemon_goes_and_comes_back_under_the_screen() {
    let home = Home::new();
    let daemon = home.daemon();
    home.write("go", "");
    home.register("web", LINKED);
    home.ok(&["run", "web/first"]);
    home.ok(&["run", "web/second"]);
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[]);
    terminal.wait_for("runs · 2");
    terminal.press("\r");
    terminal.wait_for("= page 1");
    terminal.press("j");
    terminal.wait_for("R2:2.1 page");
    daemon.kill();
    let screen = terminal.wait_for("disconnected");
    assert!(screen.contains("R2:2.1 page") && !screen.contains("✓ connected"), "{screen}");
    terminal.press("r");
    terminal.press("f");
    terminal.wait_for("not connected to the daemon");
    let mut daemon = home.daemon();
    for _ in 0..5 {
        terminal.wait_for("✓ connected");
        let screen = terminal.wait_for("R2:2.1 page");
        assert!(screen.contains("Runs › R2 › R2:2"), "{screen}");
        daemon.kill();
        terminal.wait_for("disconnected");
        daemon = home.daemon();
    }
    terminal.wait_for("✓ connected");
    // Nothing that was refused was kept to be done later.
    assert_eq!(home.json(&["show", "R2:2"])["step"]["attempts"].as_array().unwrap().len(), 1);
    terminal.press("r");
    terminal.press("f");
    terminal.wait_for("R2:2.2 runs again");
}

#[test]
fn the_terminal_is_given_back_on_every_way_out() {
    let home = Home::new();
    let _daemon = home.daemon();
    for way in ["q", "\u{3}", "TERM", "HUP", "INT"] {
        let mut terminal = Terminal::open(&home, 80, 24, &[], &[]);
        terminal.wait_for("nothing has run yet");
        assert!(terminal.on_alternate_screen());
        let signal = match way {
            "TERM" => Some(rustix::process::Signal::TERM),
            "HUP" => Some(rustix::process::Signal::HUP),
            "INT" => Some(rustix::process::Signal::INT),
            _ => None,
        };
        match signal {
            Some(signal) => {
                let pid = i32::try_from(terminal.pid()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
                rustix::process::kill_process(pid, signal).unwrap();
            }
            None => terminal.press(way),
        }
        assert_eq!(terminal.ended(), 0, "{way:?}");
        eventually("the screen is given back", Duration::from_secs(5), || {
            (!terminal.on_alternate_screen()).then_some(())
        });
    }
}

#[test]
fn without_colour_and_in_ascii_the_states_differ_by_shape() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut terminal = Terminal::open(&home, 120, 36, &["demo"], &[("NO_COLOR", "1"), ("LANG", "C"), ("LC_ALL", "C")]);
    let screen = terminal.wait_until("the finished run", |screen| screen.contains("v SUCCEEDED"));
    assert!(screen.is_ascii(), "{screen}");
    assert!(screen.contains("= fib"), "{screen}");
    terminal.press("q");
    terminal.wait_for("runs - 2");
}

#[test]
fn any_size_is_borne() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write("go", "");
    home.register("web", LINKED);
    home.ok(&["run", "web/first"]);
    for (columns, rows) in [(2, 2), (10, 3), (20, 6), (30, 10), (59, 12), (100, 14), (250, 70)] {
        let mut terminal = Terminal::open(&home, columns, rows, &[], &[]);
        terminal.wait_until("something", |screen| !screen.trim().is_empty());
        terminal.press("\rje");
        std::thread::sleep(Duration::from_millis(100));
        terminal.press("\u{3}");
        assert_eq!(terminal.ended(), 0, "{columns}x{rows}");
    }
}

const EVERYTHING: &str = r#"
import time, ibid
from ibid import checkpoint, sensor, task, workflow

@task(cache=True)
def fetch(n):
    if n == 4:
        raise ValueError("no four")
    return n

@task(defer=True, delay=0.5)
def index(version):
    return version

@task(wait=True)
def after(calls):
    return len(calls)

@task()
def crunch(n):
    for _ in ibid.progress(range(n), label="rows"):
        ibid.metric("loss", 0.123456)
        time.sleep(0.1)

@workflow()
def all(n):
    with ibid.group("pages"):
        pages = fetch.map(range(8))
    older, newer = index.submit(1), index.submit(2)
    waiting = after.submit([older, newer])
    crunch(n)
    return waiting.result()

@sensor()
def watch(every, n=0):
    while True:
        time.sleep(every)
        n += 1
        checkpoint(every, n)
"#;

#[test]
fn groups_fold_and_progress_fills_a_bar() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("every", EVERYTHING);
    let run = home.ok(&["submit", "every/all", "100"]);
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[]);
    terminal.wait_for("every/all");
    terminal.press("\r");
    let screen = terminal.wait_until("the group", |screen| screen.contains("+pages ×8") && screen.contains("░"));
    assert!(!screen.contains("fetch"), "{screen}");
    let group = screen.lines().find(|line| line.contains("+pages")).unwrap();
    assert!(group.contains("✓7") && group.contains("✗1"), "{group}");
    is_whole(&screen, 120);
    terminal.press("jl");
    let screen = terminal.wait_until("its calls", |screen| screen.contains("fetch 0") && screen.contains("fetch 7"));
    assert!(screen.contains("group pages"), "{screen}");
    // The next failure is inside of it; h goes back to the group, and folds it.
    terminal.press("}");
    terminal.wait_for("ValueError: no four");
    terminal.press("hh");
    terminal.wait_until("the group folded", |screen| !screen.contains("fetch 0"));
    terminal.press("G");
    let screen = terminal.wait_until("the progress", |screen| screen.contains("Progress  rows "));
    assert!(screen.contains("loss=0.1235"), "{screen}");
    home.ok(&["cancel", &run]);
    terminal.press("qq");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn run_shows_the_progress_of_its_calls_as_a_bar() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("every", EVERYTHING);
    let mut terminal = Terminal::open(&home, 100, 24, &["run", "every/all", "30"], &[]);
    let screen = terminal.wait_until("the bar", |screen| screen.contains('█') && screen.contains("rows "));
    assert!(screen.contains("R1:13 █") && screen.contains("/30 "), "{screen}");
    let screen = terminal.wait_until("the result", |screen| screen.lines().any(|line| line.trim() == "2"));
    assert!(!screen.contains('█'), "{screen}");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn every_state_is_named_with_its_cause() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("every", &EVERYTHING.replace("delay=0.5", "delay=600"));
    home.ok(&["submit", "every/all", "0"]);
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[("NO_COLOR", "1")]);
    terminal.wait_for("every/all");
    terminal.press("\r");
    terminal.wait_for("↷ R1:11.1");
    terminal.press("jj");
    let screen = terminal.wait_for("DEFERRED");
    assert!(screen.contains("replaced by R1:11.1"), "{screen}");
    terminal.press("gf");
    terminal.wait_for("R1:11.1 index");
    let screen = terminal.wait_for("QUEUED");
    assert!(screen.contains("due in") && screen.contains("Replaces  1 older call"), "{screen}");
    terminal.press("j");
    let screen = terminal.wait_for("R1:12.1 after");
    assert!(screen.contains("Waits for R1:10") && screen.contains("Waits for R1:11"), "{screen}");
    assert!(screen.contains("after [R1:10,R1:11]"), "{screen}");
    terminal.press("e");
    terminal.wait_for("explain R1:12.1");
    terminal.press("\u{1b}");
    terminal.press("qq");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn sensors_are_started_and_stopped_from_the_board() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("every", EVERYTHING);
    let mut terminal = Terminal::open(&home, 80, 24, &[], &[]);
    terminal.wait_for("✓ connected");
    terminal.press("S");
    terminal.wait_for("every/watch(every, n)");
    terminal.press("s");
    terminal.wait_for("arguments:");
    terminal.press("[1\r");
    terminal.wait_for("this is not finished");
    terminal.press("\u{7f}\u{7f}0.1\r");
    terminal.wait_for("running    R1");
    eventually("it sets checkpoints", Duration::from_secs(10), || {
        home.json(&["sensors"])["sensors"][0]["checkpoint"].as_str().map(str::to_owned)
    });
    terminal.press("x");
    let screen = terminal.wait_for("stopped    R1");
    is_whole(&screen, 80);
    assert_eq!(home.json(&["sensors"])["sensors"][0]["state"].as_str(), Some("stopped"));
    terminal.press("\u{1b}");
    terminal.press("qq");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn each_list_has_a_screen_that_shows_what_the_commands_show() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("every", &EVERYTHING.replace("delay=0.5", "delay=600"));
    home.ok(&["submit", "every/all", "100"]);
    for (columns, rows) in [(120, 36), (80, 24)] {
        let mut terminal = Terminal::open(&home, columns, rows, &[], &[]);
        terminal.wait_for("every/all");
        terminal.press("3");
        let screen = terminal.wait_for("due in");
        assert!(screen.contains("R1:11.1") && screen.contains("index 2"), "{screen}");
        is_whole(&screen, usize::from(columns));
        terminal.press("4");
        let screen = terminal.wait_for("every:fetch");
        let cache = home.json(&["cache", "ls"]);
        assert_eq!(cache["namespaces"][0]["executed"].as_u64(), Some(7), "{cache}");
        let line = screen.lines().find(|line| line.contains("every:fetch")).unwrap();
        assert!(line.contains(" 7 ") && line.contains(" 1 "), "{line}");
        is_whole(&screen, usize::from(columns));
        terminal.press("\r");
        let screen = terminal.wait_for("fetch 7");
        assert!(screen.lines().any(|line| line.contains("✗ ") && line.contains("R1:6.1")), "{screen}");
        // To all that the key did, to the execution that made its newest result, and all the way back.
        terminal.press("\r");
        terminal.wait_for("what this key is doing now");
        terminal.press("\r");
        terminal.wait_for("R1 all ·");
        terminal.press("-");
        terminal.wait_for("what this key is doing now");
        terminal.press("q");
        terminal.wait_for("newest");
        terminal.press("q");
        terminal.wait_for("namespaces");
        terminal.press("5");
        let screen = terminal.wait_for("executor");
        assert!(screen.contains("template") && screen.contains("R1:1.1"), "{screen}");
        is_whole(&screen, usize::from(columns));
        terminal.press("6");
        let screen = terminal.wait_for("commits");
        assert!(screen.contains("serving") && screen.contains(&home.socket().display().to_string()), "{screen}");
        is_whole(&screen, usize::from(columns));
        terminal.press("qq");
        assert_eq!(terminal.ended(), 0);
    }
}

#[test]
fn what_is_selected_is_copied_and_every_action_is_found_by_its_words() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("every", EVERYTHING);
    home.ok(&["run", "every/all", "0"]);
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[]);
    terminal.wait_for("every/all");
    terminal.press("\r");
    terminal.wait_for("+pages");
    terminal.press("yy");
    terminal.wait_for("copied the id, 4 B");
    // R1:1 in base64, as terminals want it.
    eventually("the clipboard is set", Duration::from_secs(5), || {
        terminal.has_sent("\u{1b}]52;c;UjE6MQ==").then_some(())
    });
    terminal.press("yr");
    terminal.wait_for("copied the result, 1 B");
    terminal.press("yc");
    terminal.wait_for("copied the command");
    terminal.press("yk");
    terminal.wait_for("there is none to copy here");
    terminal.press(":");
    terminal.wait_for("actions · type words");
    terminal.press("worker proc");
    let screen = terminal.wait_for("worker processes");
    assert!(!screen.contains("next row"), "{screen}");
    terminal.press("\r");
    terminal.wait_for("executor");
    terminal.press("qq");
    assert_eq!(terminal.ended(), 0);
}
