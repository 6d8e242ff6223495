//! The screens as they are used: searching logs, starting, forgetting, comparing, leaving and coming back.

use std::time::Duration;

use ibid_tests::terminal::Terminal;
use ibid_tests::{Home, eventually};

const REPORT: &str = r#"
import sys, time, os
from ibid import task, workflow, log_info

@task(cache=True)
def source(day):
    """Reads a day."""
    return {"day": day, "made": os.environ.get("MADE", "?")}

@task(cache=True)
def parse(doc):
    return len(str(doc))

@workflow()
def report(day, limit=10):
    """The report of a day."""
    return parse(source(day))

@task()
def chatter(n):
    for i in range(n):
        if i == 70:
            print("a \x1b[31mred\x1b[0m needle \x1b[2J\x1b]0;title\x07end")
        print(f"line {i} " + "x" * 150)
    sys.stdout.flush()
    while not os.path.exists("go"):
        time.sleep(0.02)
    print("the last line")

@workflow()
def chat(n):
    chatter(n)
"#;

fn open(home: &Home) -> Terminal {
    Terminal::open(home, 120, 36, &[], &[])
}

#[test]
fn a_log_is_followed_searched_wrapped_and_streamed() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("news", REPORT);
    home.ok(&["submit", "news/chat", "100"]);
    let mut terminal = open(&home);
    terminal.wait_for("news/chat");
    terminal.press("\r");
    terminal.wait_for("chatter 100");
    terminal.press("j");
    terminal.wait_for("line 99 ");
    terminal.press("gl");
    let screen =
        terminal.wait_until("the whole log", |screen| screen.contains("line 99 ") && screen.contains("line 75 "));
    assert!(screen.contains("follow") && screen.contains('…'), "{screen}");
    // Up from the end: it stays where it is read while lines come in.
    terminal.press("gg");
    let screen = terminal.wait_for("line 0 ");
    assert!(screen.contains("1 of 101, G follows"), "{screen}");
    // A search goes from here to there; what the program wrote does nothing to the terminal.
    terminal.press("/NEEDLE\r");
    let screen = terminal.wait_for("a red needle end");
    assert!(screen.contains("71 of 101"), "{screen}");
    assert!(!terminal.has_sent("\u{1b}]0;title"), "an escape sequence of the log reached the terminal");
    terminal.press("w");
    terminal.wait_for("long lines are wrapped");
    terminal.press("t");
    terminal.press("t");
    let screen = terminal.wait_until("no times", |screen| screen.contains("│ line 69 x"));
    assert!(screen.contains("wrap"), "{screen}");
    // As a plain stream on the terminal's own screen, and back.
    terminal.press("O");
    eventually("the other screen", Duration::from_secs(5), || (!terminal.on_alternate_screen()).then_some(()));
    terminal.wait_for("line 99 xx");
    home.write("go", "");
    let screen = terminal.wait_for("(end of the log of R1:2.1");
    assert!(screen.contains("the last line"), "{screen}");
    terminal.press("O");
    eventually("the screens", Duration::from_secs(5), || terminal.on_alternate_screen().then_some(()));
    terminal.press("G");
    let screen = terminal.wait_for("the last line");
    assert!(screen.contains("follow"), "{screen}");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_workflow_is_started_from_a_form_that_remembers() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("news", REPORT);
    let mut terminal = open(&home);
    terminal.wait_for("✓ connected");
    terminal.press("R");
    let screen = terminal.wait_for("type to find it");
    assert!(screen.contains("news/report(day, limit)") && screen.contains("The report of a day."), "{screen}");
    terminal.press("report\r");
    terminal.wait_for("start news/report in default/default");
    terminal.press("\r");
    terminal.wait_for("day: missing");
    terminal.press("[1");
    terminal.wait_for("not finished");
    terminal.press("\u{15}monday");
    terminal.wait_for("text");
    terminal.press("\u{5}");
    terminal.wait_for("news/report would run");
    terminal.press("\r");
    terminal.wait_for("Runs › R1");
    eventually("the run ends", Duration::from_secs(10), || {
        (home.json(&["show", "R1"])["run"]["state"] == "succeeded").then_some(())
    });
    let arguments = &home.json(&["show", "R1"])["step"]["arguments"];
    assert_eq!(arguments[0]["value"]["value"], "monday", "{arguments}");
    assert_eq!(arguments[1]["value"]["value"], 10, "{arguments}");
    // The same again with another argument, from the menu of re-runs.
    terminal.wait_for("SUCCEEDED");
    terminal.press("r");
    terminal.wait_for("1 call would run");
    terminal.press("a");
    terminal.wait_for("start news/report in default/default");
    terminal.press("\u{15}tuesday\r");
    terminal.wait_for("Runs › R2");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
    // The next start of the client is where the last one was left, and knows what was started.
    let mut terminal = open(&home);
    terminal.wait_for("Runs › R2");
    terminal.press("R");
    terminal.wait_for("type to find it");
    terminal.press("report\r");
    terminal.wait_for("start news/report");
    terminal.press("\u{1b}[5~");
    terminal.wait_for("day     tuesday");
    terminal.press("\u{1b}[5~");
    terminal.wait_for("day     monday");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_key_is_forgotten_put_back_and_pinned() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("news", REPORT);
    home.ok(&["run", "news/report", "monday"]);
    let mut terminal = open(&home);
    terminal.wait_for("news/report");
    terminal.press("4");
    terminal.wait_for("news:source");
    terminal.press("/source\r");
    terminal.wait_for("1 of 2 namespaces");
    terminal.press("\r");
    terminal.wait_for("source \"monday\"");
    terminal.press("X");
    terminal.wait_for("is forgotten");
    terminal.wait_for("forgotten");
    home.ok(&["run", "news/report", "monday"]);
    assert_eq!(home.why("R2:2"), "forgotten");
    let key = home.json(&["cache", "ls", "news:source"])["keys"][0]["key"].as_str().unwrap().to_owned();
    home.ok(&["cache", "forget", &key]);
    terminal.press("P");
    terminal.wait_for("no result is remembered under this key");
    home.ok(&["cache", "forget", &key, "--undo"]);
    home.ok(&["run", "news/report", "monday"]);
    assert_eq!(home.why("R3:2"), "hit");
    terminal.press("P");
    terminal.wait_for("is pinned");
    terminal.wait_for("pinned");
    terminal.press("z");
    terminal.wait_for("is unpinned");
    // All that the key did, from its newest execution.
    terminal.press("\r");
    let screen = terminal.wait_for("✓ R1:2.1");
    assert!(screen.contains("= R3:2.1") && screen.contains("what this key is doing now"), "{screen}");
    terminal.press("qqq");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn what_differs_is_shown_and_why_it_does_down_to_its_root() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("news", REPORT);
    home.ok(&["run", "news/report", "monday"]);
    home.ok(&["run", "news/report", "someday"]);
    let why = home.json(&["why", "R2:3"]);
    let causes: Vec<_> =
        why["causes"].as_array().unwrap().iter().map(|cause| cause["text"].as_str().unwrap()).collect();
    assert!(causes[0].contains("is the result of R2:2") && causes[0].contains("R1:2.1"), "{causes:?}");
    assert!(causes[1].contains("R2:2.1 ran because its argument day differs"), "{causes:?}");
    assert!(why["would_hit"].as_str().unwrap().contains("news/source"), "{why}");
    let mut terminal = open(&home);
    terminal.wait_for("news/report");
    terminal.press("\r");
    terminal.wait_for("parse");
    terminal.press("jje");
    let screen = terminal.wait_for("explain R2:3.1");
    assert!(screen.contains("is the result of R2:2"), "{screen}");
    terminal.press("d");
    let screen = terminal.wait_for("R1:3.1 and R2:3.1");
    assert!(screen.contains("day - \"monday\"") && screen.contains("day + \"someday\""), "{screen}");
    assert!(screen.contains("equal") && !screen.contains("= news/parse"), "{screen}");
    terminal.press("\t");
    terminal.wait_for("= news/parse");
    terminal.press("\u{1b}");
    // Any two can be marked and compared, here two runs.
    terminal.press("q");
    terminal.wait_for("runs · 2");
    terminal.press("gg ");
    terminal.wait_for("R2 is marked");
    terminal.press(" ");
    terminal.wait_for("R2 and R1 are marked");
    terminal.press("d");
    terminal.wait_for("R2:1.1 and R1:1.1");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
    let said = home.ok(&["diff", "R1", "R2"]);
    assert!(said.contains("argument day") && said.contains("monday") && said.contains("equal:"), "{said}");
}

#[test]
fn keys_looks_and_environments_are_the_users_choice() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("news", REPORT);
    home.ok(&["run", "news/report", "monday"]);
    home.ok(&["-p", "other", "register", "news"]);
    home.ok(&["-p", "other", "run", "news/report", "friday"]);
    std::fs::create_dir_all(home.path().join("config/ibid")).unwrap();
    home.write("config/ibid/config.toml", "[keys]\nexplain = \"i\"\nrerun = []\n[client]\ntheme = \"dark\"\n");
    let config = home.path().join("config").display().to_string();
    let variables = [("XDG_CONFIG_HOME", config.as_str())];
    let mut terminal = Terminal::open(&home, 120, 36, &[], &variables);
    terminal.wait_for("runs · 2");
    assert!(terminal.has_sent("\u{1b}[38;2;"), "the theme's own colours are used");
    terminal.press("r");
    terminal.press("i");
    terminal.wait_for("explain R2:1.1");
    terminal.press("\u{1b}");
    // One environment, then the queue of sorted and reversed runs, then all again.
    terminal.press("E");
    terminal.wait_for("all projects and environments");
    terminal.press("j\r");
    let screen = terminal.wait_for("runs · 1 ");
    assert!(screen.contains("default/default") && screen.contains("R1 "), "{screen}");
    terminal.press("E");
    terminal.wait_for("all projects and environments");
    terminal.press("k\r");
    terminal.wait_for("runs · 2");
    terminal.press("s");
    terminal.wait_for("sort: time");
    terminal.press("I");
    terminal.wait_for("sort: time, inverse");
    terminal.press("p");
    terminal.wait_for("paused");
    home.ok(&["run", "news/report", "tuesday"]);
    terminal.wait_for("paused, 1 behind");
    terminal.press("p");
    terminal.wait_for("runs · 3");
    // Again with the mouse.
    terminal.press(":mouse\r");
    terminal.wait_for("the mouse selects");
    assert!(terminal.has_sent("\u{1b}[?1000h"));
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
    assert!(terminal.has_sent("\u{1b}[?1000l"), "the mouse is given back");
    home.write("config/ibid/config.toml", "[keys]\nexplain = \"x\"\n");
    let mut terminal = Terminal::open(&home, 120, 36, &[], &variables);
    terminal.wait_for("the key 'x' would do both 'explain' and 'cancel'");
    assert_eq!(terminal.ended(), 2);
}

#[test]
fn the_screens_show_what_the_commands_say() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("news", REPORT);
    home.ok(&["run", "news/report", "monday"]);
    home.ok(&["run", "news/report", "monday"]);
    home.fails(1, &["run", "news/chat", "\"no number\""]);
    home.ok(&["submit", "news/chat", "3"]);
    eventually("it writes", Duration::from_secs(10), || {
        String::from_utf8_lossy(&home.ibid(&["logs", "R4:2"]).stdout).contains("line 2").then_some(())
    });
    let plain = |words: &str| {
        use std::io::Write as _;
        let mut child = home
            .command(&["--plain"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let glyph = |state: &str| match state {
        "running" => "▸",
        "succeeded" => "✓",
        "failed" => "✗",
        "cached" => "=",
        other => panic!("{other}"),
    };
    let line = |screen: &str, id: &str| {
        let found = screen.lines().find(|line| line.starts_with('│') && line.contains(&format!("{id} ")));
        found.unwrap_or_else(|| panic!("{id} is not on the screen:\n{screen}")).to_owned()
    };
    let mut terminal = open(&home);
    let screen = terminal.wait_for("runs · 4");
    let told = plain("");
    for run in home.json(&["runs"])["runs"].as_array().unwrap() {
        let (id, state) = (text(&run["id"]), text(&run["state"]));
        let row = line(&screen, &id);
        assert!(row.contains(&format!("{} {id} ", glyph(&state))) && row.contains(&text(&run["target"])), "{row}");
        assert!(told.contains(&format!("{id} {} {state}", text(&run["target"]))), "{told}");
    }
    for run in ["R2", "R3", "R4"] {
        terminal.press(&format!("1/{run}\r"));
        terminal.wait_for("runs · 1 of 4");
        terminal.press("\r");
        terminal.wait_for(&format!("┌ {run} "));
        let screen = terminal.wait_for("step ");
        let told = plain(&format!("run {run}\n"));
        let steps: serde_json::Value =
            serde_json::from_str(&home.ok(&["rpc", "steps", &format!("{{\"run\": \"{run}\"}}")])).unwrap();
        for step in steps["result"]["steps"].as_array().unwrap() {
            let name = text(&step["target"]).replace("news/", "");
            let row = screen
                .lines()
                .find(|line| line.contains(&format!("{name} ")) && line.contains(glyph(&text(&step["state"]))));
            assert!(row.is_some(), "{name} of {run} is not shown as {}:\n{screen}", step["state"]);
            assert!(told.contains(&format!("{} {name}", text(&step["id"]))), "{told}");
            if let Some(source) = step["attempts"][0]["source"].as_str() {
                assert!(screen.contains(&format!("= {source}")) && told.contains(source), "{screen}");
            }
        }
        terminal.press("q");
        terminal.wait_for("runs ·");
        terminal.press("\u{1b}");
        terminal.wait_for("runs · 4");
    }
    terminal.press("4");
    let screen = terminal.wait_for("2 namespaces");
    let told = plain("cache\n");
    for space in home.json(&["cache", "ls"])["namespaces"].as_array().unwrap() {
        let row = line(&screen, &text(&space["namespace"]));
        let figures = ["executed", "failed", "hits", "links"].map(|name| space[name].to_string());
        let cells: Vec<&str> = row.split_whitespace().collect();
        let at = cells.iter().position(|cell| *cell == text(&space["namespace"])).unwrap();
        assert_eq!(cells[at + 1..at + 5], figures, "{row}");
        assert!(
            told.contains(&format!("{} executed, {} failed, {} hits", figures[0], figures[1], figures[2])),
            "{told}"
        );
    }
    terminal.press("/parse\r");
    terminal.wait_for("1 of 2");
    terminal.press("\r");
    let screen = terminal.wait_for("newest");
    let keys = home.json(&["cache", "ls", "news:parse"]);
    let key = text(&keys["keys"][0]["key"]);
    assert!(line(&screen, &key[..8]).contains(&text(&keys["keys"][0]["execution"])), "{screen}");
    assert!(plain("cache news:parse\n").contains(&format!("key {}", &key[..12])));
    terminal.press("\r");
    let shown = home.json(&["cache", "show", &key]);
    let told = plain(&format!("key {key}\n"));
    let ids: Vec<_> = shown["executions"].as_array().unwrap().iter().map(|execution| text(&execution["id"])).collect();
    let screen = terminal.wait_until("the key's executions", |screen| {
        screen.contains("what this key is doing now") && ids.iter().all(|id| screen.contains(id.as_str()))
    });
    for execution in shown["executions"].as_array().unwrap() {
        assert!(screen.contains(&text(&execution["id"])) && told.contains(&text(&execution["id"])), "{screen}{told}");
    }
    for borrower in shown["borrowers"].as_array().unwrap() {
        assert!(screen.contains(&text(borrower)) && told.contains(&text(borrower)), "{screen}{told}");
    }
    terminal.press("5");
    let screen = terminal.wait_for("executor");
    let told = plain("workers\n");
    for worker in home.json(&["workers"]).as_array().unwrap() {
        let row = line(&screen, &format!("w-{}", worker["worker"]));
        for name in ["role", "state", "repository"] {
            assert!(row.contains(&text(&worker[name])), "{row}");
        }
        assert!(row.contains(&worker["pid"].to_string()), "{row}");
        assert!(told.contains(&format!("worker w-{}, {}", worker["worker"], text(&worker["role"]))), "{told}");
    }
    terminal.press("6");
    let screen = terminal.wait_for("commits");
    let stats = home.json(&["daemon", "status"]);
    assert!(screen.contains(&stats["pid"].to_string()) && screen.contains(&text(&stats["socket"])), "{screen}");
    assert!(plain("daemon\n").contains(&format!("process {}", stats["pid"])));
    home.write("go", "");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
    let told = plain("why R2:2\nnonsense\nlog R4:2\nfollow R4\nquit\n");
    for part in ["R2:2.1 took the result of R1:2.1", "'nonsense' is not known here", "log of R4:2.1", "R4 news/chat"] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
}

#[test]
fn a_hundred_daemons_die_under_the_screen_and_it_stays() {
    let home = Home::new();
    let mut daemon = home.daemon();
    home.register("news", REPORT);
    for day in ["monday", "tuesday", "wednesday"] {
        home.ok(&["run", "news/report", day]);
    }
    let mut terminal = open(&home);
    terminal.wait_for("runs · 3");
    terminal.press("j\r");
    terminal.wait_for("Runs › R2 › R2:1");
    terminal.press("jj");
    terminal.wait_for("R2:3.1 parse");
    for round in 0..100 {
        daemon.kill();
        let screen = terminal.wait_for("disconnected");
        assert!(screen.contains("R2:3.1 parse"), "round {round}: what was loaded is gone\n{screen}");
        assert!(
            !screen.contains("✓ connected") && !screen.contains("running "),
            "round {round}: old figures\n{screen}"
        );
        // Moving about needs no daemon.
        terminal.press("kj");
        daemon = home.daemon();
        terminal.wait_for("✓ connected");
        terminal.wait_until("the same step", |screen| {
            screen.contains("Runs › R2 › R2:3") && screen.contains("R2:3.1 parse") && screen.contains("✓ SUCCEEDED")
        });
    }
    terminal.press("e");
    terminal.wait_for("explain R2:3.1");
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_storm_of_sizes_ends_in_the_right_picture() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("news", REPORT);
    home.ok(&["run", "news/report", "monday"]);
    let mut terminal = open(&home);
    terminal.wait_for("news/report");
    terminal.press("\r");
    terminal.wait_for("parse");
    let mut size = 7_u32;
    for _ in 0..150 {
        size = size.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let (columns, rows) = (1 + (size >> 16) % 400, 1 + (size >> 8) % 120);
        terminal.resize(u16::try_from(columns).unwrap(), u16::try_from(rows).unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
    terminal.resize(100, 30);
    let screen = terminal.wait_until("the right picture", |screen| {
        let lines: Vec<_> = screen.lines().collect();
        lines.len() == 30 && lines[2].starts_with('┌') && lines[2].trim_end().ends_with('┐') && screen.contains("parse")
    });
    assert!(screen.lines().all(|line| line.chars().count() <= 100), "{screen}");
    terminal.press("q");
    terminal.wait_for("runs · 1");
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn the_terminal_has_the_modes_that_it_had() {
    let home = Home::new();
    let _daemon = home.daemon();
    for way in ["q", "\u{3}", "TERM", "HUP", "INT"] {
        let mut terminal = Terminal::open(&home, 80, 24, &[], &[]);
        let modes = |terminal: &Terminal| {
            let output = std::process::Command::new("stty").args(["-a", "-F", &terminal.name()]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        terminal.wait_for("nothing has run yet");
        assert!(modes(&terminal).contains("-icanon"), "it takes keys one by one");
        let pid = i32::try_from(terminal.pid()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        let send = |signal| rustix::process::kill_process(pid, signal).unwrap();
        match way {
            "TERM" => send(rustix::process::Signal::TERM),
            "HUP" => send(rustix::process::Signal::HUP),
            "INT" => send(rustix::process::Signal::INT),
            key => terminal.press(key),
        }
        assert_eq!(terminal.ended(), 0, "{way:?}");
        for mode in ["\u{1b}[?1049l", "\u{1b}[?25h", "\u{1b}[?1000l", "\u{1b}[?2004l"] {
            assert!(terminal.has_sent(mode), "{way:?}: {mode:?} was not sent");
        }
        let now = modes(&terminal);
        assert!(now.contains(" icanon") && now.contains(" echo ") && now.contains("isig"), "{way:?}: {now}");
    }
}
