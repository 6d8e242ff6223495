//! How fast the terminal client is, in a pseudo-terminal, over a store of a million steps:
//! `cargo run --release -p ibid-tests --bin screens [STEPS [LINES]]`. Nothing here is a test: no figure fails.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ibid::model::Cache;
use ibid_tests::driver::Driver;
use ibid_tests::filled::{self, Filled};
use ibid_tests::terminal::Terminal;
use ibid_tests::{Daemon, Home};

const MARKS: &[(&str, &str)] = &[("IBID_FRAME_MARKS", "1")];

fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    samples.get((samples.len() * percent / 100).min(samples.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn show(what: &str, target: &str, figure: &str) {
    println!("| {what} | {target} | {figure} |");
}

fn both(samples: &mut [Duration], high: usize) -> String {
    format!("p50 {}, p{high} {}", millis(percentile(samples, 50)), millis(percentile(samples, high)))
}

fn open(home: &Home, columns: u16, rows: u16) -> Terminal {
    // Where the last one was left does not matter here.
    let _gone = std::fs::remove_file(home.data().join("client.json"));
    Terminal::open(home, columns, rows, &[], MARKS)
}

/// Times so many presses, each until the screen shows something.
fn presses(terminal: &mut Terminal, keys: &[(&str, &str)], rounds: usize) -> Vec<Duration> {
    let mut samples = Vec::new();
    for _ in 0..rounds {
        for (key, shows) in keys {
            match terminal.timed(key, |terminal| terminal.screen().contains(shows)) {
                Some(took) => samples.push(took),
                None => println!("(never: {key:?} shows {shows:?})\n{}", terminal.screen()),
            }
        }
    }
    samples
}

/// Times so many presses, each until the header says that something else is selected.
fn moves(terminal: &mut Terminal, keys: &[&str], rounds: usize) -> Vec<Duration> {
    let header =
        |terminal: &Terminal| terminal.screen().lines().next().map(|line| line.chars().take(40).collect::<String>());
    let mut samples = Vec::new();
    for _ in 0..rounds {
        for key in keys {
            let before = header(terminal);
            match terminal.timed(key, |terminal| header(terminal) != before) {
                Some(took) => samples.push(took),
                None => return samples,
            }
        }
    }
    samples
}

/// Times so many presses of one key, each until its frame is whole.
fn frames(terminal: &mut Terminal, key: &str, count: usize, pause: Duration) -> Vec<Duration> {
    let mut samples = Vec::new();
    for _ in 0..count {
        let before = terminal.frames();
        samples.extend(terminal.timed(key, |terminal| terminal.frames() > before));
        std::thread::sleep(pause);
    }
    samples
}

/// Figures of a process out of `/proc`: resident memory in bytes, and how often its threads were woken.
fn process(pid: u32) -> (u64, u64) {
    let number = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let memory =
        std::fs::read_to_string(format!("/proc/{pid}/status")).map_or(0, |text| number(&text, "VmRSS:") * 1024);
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let wakes = threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok())
        .map(|text| number(&text, "voluntary_ctxt_switches:"))
        .sum();
    (memory, wakes)
}

#[expect(clippy::cast_precision_loss, reason = "shown to people")]
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

fn start(home: &Home, last: &str) {
    let mut first = Vec::new();
    let mut rows = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let terminal = open(home, 120, 36);
        while terminal.frames() == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        first.push(begun.elapsed());
        while !terminal.screen().contains(last) {
            std::thread::sleep(Duration::from_micros(100));
        }
        rows.push(begun.elapsed());
    }
    show("start to first frame", "p95 ≤ 15 ms", &both(&mut first, 95));
    show("start to rows", "p95 ≤ 60 ms", &both(&mut rows, 95));
}

fn idle(home: &Home) {
    let terminal = open(home, 120, 36);
    terminal.wait_for("connected");
    std::thread::sleep(Duration::from_secs(2));
    terminal.forget_sent();
    let before = process(terminal.pid());
    std::thread::sleep(Duration::from_secs(5));
    let after = process(terminal.pid());
    show("idle, 5 s: bytes written, wake-ups", "0, 0", &format!("{}, {}", terminal.bytes(), after.1 - before.1));
}

fn keys(home: &Home) {
    for (columns, rows) in [(120, 36), (200, 60)] {
        let mut terminal = open(home, columns, rows);
        terminal.wait_for("connected");
        std::thread::sleep(Duration::from_millis(300));
        let mut samples = frames(&mut terminal, "j", 100, Duration::from_millis(5));
        show(&format!("key to frame, idle, {columns}x{rows}"), "p50 ≤ 2 ms, p99 ≤ 8 ms", &both(&mut samples, 99));
        if columns == 120 {
            terminal.forget_sent();
            frames(&mut terminal, "j", 20, Duration::from_millis(5));
            show("scroll one row", "≤ 6 KB", &format!("{} B", terminal.bytes() / 20));
        }
    }
}

fn browse(home: &Home, filled: &Filled) {
    let mut terminal = open(home, 120, 36);
    terminal.wait_for("connected");
    let last = format!("> ✓ R{}", filled.runs);
    let mut samples = presses(&mut terminal, &[("G", "R1 "), ("gg", last.trim_start_matches("> ✓ "))], 20);
    show("runs: G and gg", "p95 ≤ 50 ms", &both(&mut samples, 95));
    terminal.press("gg");
    std::thread::sleep(Duration::from_millis(200));
    let mut samples = frames(&mut terminal, "\u{4}", 60, Duration::from_millis(2));
    show("runs: half a page, 60 times", "p95 ≤ 50 ms", &both(&mut samples, 95));
    let mut samples = Vec::new();
    for _ in 0..10 {
        samples.extend(presses(
            &mut terminal,
            &[("/backfill\r", "runs · 1 of"), ("\u{1b}", &format!("runs · {} ", filled.runs))],
            1,
        ));
    }
    show("runs: filter, and clear it", "p95 ≤ 100 ms", &both(&mut samples, 95));
    let mut samples = presses(
        &mut terminal,
        &[
            ("s", "sort: time"),
            ("s", "sort: state"),
            ("s", "sort: target"),
            ("s", "sort: steps"),
            ("s", "sort: reused"),
            ("s", "sorted by started"),
        ],
        5,
    );
    show("runs: sort", "p95 ≤ 200 ms", &both(&mut samples, 95));
}

fn large_run(home: &Home, filled: &Filled) {
    let largest = filled.largest.to_string();
    let mut terminal = open(home, 120, 36);
    terminal.wait_for("connected");
    terminal.press("/backfill\r");
    terminal.wait_for("runs · 1 of");
    let mut opened = presses(&mut terminal, &[("\r", "backfill · ")], 1);
    show(&format!("open {largest}, a tenth of all steps"), "", &both(&mut opened, 95));
    let mut samples = moves(&mut terminal, &["G", "gg"], 20);
    show("its tree: G and gg", "p95 ≤ 50 ms", &both(&mut samples, 95));
    let mut samples = moves(&mut terminal, &["}"], 20);
    show("its tree: next failure", "p95 ≤ 50 ms", &both(&mut samples, 95));
    let mut samples = Vec::new();
    for _ in 0..5 {
        samples.extend(presses(&mut terminal, &[("/state:failed\r", "│> ✗")], 1));
        terminal.press("\u{1b}");
        terminal.wait_until("the tree", |screen| screen.contains("├") && !screen.contains("filter:"));
        terminal.press("gg");
        terminal.wait_for("│> ✓");
    }
    show("its tree: filter", "p95 ≤ 100 ms", &both(&mut samples, 95));
    let mut samples = Vec::new();
    for _ in 0..10 {
        terminal.press("/state:cached\r");
        terminal.wait_for("│> =");
        samples.extend(moves(&mut terminal, &["gf", "-"], 1));
        terminal.press("\u{1b}");
        terminal.wait_until("the tree", |screen| screen.contains("├") && !screen.contains("filter:"));
        terminal.press("gg");
        terminal.wait_for("│> ✓");
    }
    show("the source of a borrowed row, and back", "≤ 50 ms", &both(&mut samples, 95));
    let (memory, _) = process(terminal.pid());
    show("memory of the client there", "≤ 40 MiB", &mib(memory));
}

fn cache(home: &Home) {
    let mut terminal = open(home, 120, 36);
    terminal.wait_for("connected");
    terminal.press("4");
    terminal.wait_for("namespaces");
    let mut opened = presses(&mut terminal, &[("\r", "newest")], 1);
    show("the keys of a namespace, the first time", "", &both(&mut opened, 95));
    let mut samples = presses(&mut terminal, &[("G", " d ago"), ("gg", " m ago")], 10);
    show("keys: G and gg", "p95 ≤ 50 ms", &both(&mut samples, 95));
    let mut first = presses(&mut terminal, &[("/item-195\r", " of ")], 1);
    show("keys: filter by words, the first time", "", &both(&mut first, 95));
    let mut samples = Vec::new();
    for word in ["/item-17\r", "/item-11\r", "/item-19\r"] {
        terminal.press("\u{1b}");
        std::thread::sleep(Duration::from_millis(200));
        samples.extend(presses(&mut terminal, &[(word, " of ")], 1));
    }
    show("keys: filter by words, again", "p95 ≤ 100 ms", &both(&mut samples, 95));
}

fn log(home: &Home, filled: &Filled, lines: u64) {
    let mut terminal = open(home, 120, 36);
    terminal.wait_for("connected");
    terminal.press("/nightly\r");
    terminal.wait_for("> ");
    terminal.press("\r");
    terminal.wait_for(&format!("log of {}", filled.logged));
    let last = format!("row {} of", lines - 1);
    let mut samples = presses(&mut terminal, &[("gl", "checksum"), ("gg", "row 0 of"), ("G", &last)], 5);
    show(&format!("a log of {} lines: first and last screen", lines), "≤ 50 ms", &both(&mut samples, 95));
    let half = format!("row {} of {lines} read", lines / 2);
    terminal.press("G");
    std::thread::sleep(Duration::from_millis(500));
    terminal.press(&format!("/{}", half.trim_end_matches(" read")));
    let mut samples = presses(&mut terminal, &[("\r", &half)], 1);
    let what = format!("its next match, {} lines further up ({} MB of text)", lines / 2, lines / 2 * 60 / 1_000_000);
    show(&what, "≤ 200 ms per 100 MB", &both(&mut samples, 95));
    let (memory, _) = process(terminal.pid());
    show("memory of the client there", "≤ 40 MiB", &mib(memory));
}

/// Keys while everything moves: how fast they are, and how often data alone is drawn.
fn load(home: &Home) {
    let driver_home = home.socket();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let mut driver = Driver::start(home);
    let work = std::thread::spawn(move || {
        let mut done = 10_000_000_u64;
        while stopped.try_recv().is_err() {
            let begun = Instant::now();
            driver.execute(done..done + 250, Cache::On);
            done += 250;
            // Each of them is queued, assigned and ended: some 5,000 changes a second.
            std::thread::sleep(Duration::from_millis(150).saturating_sub(begun.elapsed()));
        }
        done - 10_000_000
    });
    let mut terminal = open(home, 120, 36);
    terminal.wait_for("connected");
    terminal.wait_for("hold");
    terminal.press("\r");
    terminal.wait_for("steps");
    std::thread::sleep(Duration::from_secs(2));
    terminal.forget_sent();
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    #[expect(clippy::cast_precision_loss, reason = "shown to people")]
    let drawn = terminal.frames() as f64 / begun.elapsed().as_secs_f64();
    let mut samples = frames(&mut terminal, "j", 100, Duration::from_millis(20));
    let _gone = stop.send(());
    let done = work.join().unwrap_or(0);
    show("data alone under load", "≤ 20 frames/s", &format!("{drawn:.1} frames/s"));
    show("key to frame under load", "p99 ≤ 16 ms", &both(&mut samples, 99));
    println!("({done} executions meanwhile, socket {})", driver_home.display());
}

/// Twenty clocks that tick while nothing else happens.
fn clocks(home: &Home) {
    let mut driver = Driver::start(home);
    driver.hold(20);
    let mut terminal = open(home, 120, 36);
    terminal.wait_for("hold");
    terminal.press("\r");
    terminal.wait_for("part 19");
    std::thread::sleep(Duration::from_secs(2));
    terminal.forget_sent();
    std::thread::sleep(Duration::from_secs(5));
    show("20 clocks ticking, a second", "≤ 1 KB", &format!("{} B", terminal.bytes() / 5));
}

/// The daemon is killed under the client: when that is said, and when the same row is back.
fn kills(home: &Home, mut daemon: Daemon, times: usize) -> Daemon {
    let mut terminal = open(home, 120, 36);
    terminal.wait_for("connected");
    terminal.press("jjj");
    std::thread::sleep(Duration::from_millis(200));
    let selected = |terminal: &Terminal| {
        let screen = terminal.screen();
        screen.lines().find(|line| line.contains("│> ")).map(|line| line.chars().skip(5).take(8).collect::<String>())
    };
    let wanted = selected(&terminal);
    let (mut said, mut back, mut wrong) = (Vec::new(), Vec::new(), 0);
    for _ in 0..times {
        daemon.kill();
        let begun = Instant::now();
        while !terminal.screen().contains("disconnected") && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_micros(200));
        }
        said.push(begun.elapsed());
        daemon = home.daemon();
        let begun = Instant::now();
        while !terminal.screen().contains("✓ connected") && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_micros(200));
        }
        back.push(begun.elapsed());
        wrong += usize::from(selected(&terminal) != wanted);
    }
    show(&format!("daemon killed {times} times: said"), "≤ 250 ms", &both(&mut said, 99));
    show("the same row after it is back", "≤ 500 ms, 0 wrong", &format!("{}, {wrong} wrong", both(&mut back, 99)));
    daemon
}

fn main() {
    let number = |at, default| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (steps, lines) = (number(1, 1_000_000), number(2, 1_000_000));
    let home = Home::new();
    {
        let empty = Home::new();
        let _daemon = empty.daemon();
        let terminal = open(&empty, 120, 36);
        terminal.wait_for("nothing has run yet");
        std::thread::sleep(Duration::from_millis(300));
        println!("| what | target | figure |\n|---|---|---|");
        show("memory of the client, empty daemon", "≤ 12 MiB", &mib(process(terminal.pid()).0));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let begun = Instant::now();
    let filled = filled::fill(&home.data(), steps, lines, i64::try_from(now).unwrap_or(0));
    println!("({} steps in {} runs, filled in {:.1} s)", filled.steps, filled.runs, begun.elapsed().as_secs_f64());
    let daemon = home.daemon();
    start(&home, &format!("R{}", filled.runs));
    idle(&home);
    keys(&home);
    browse(&home, &filled);
    large_run(&home, &filled);
    cache(&home);
    log(&home, &filled, lines);
    show("memory of the daemon after all that", "", &mib(process(daemon.pid()).0));
    let daemon = kills(&home, daemon, 100);
    {
        let small = Home::new();
        let _daemon = small.daemon();
        clocks(&small);
    }
    load(&home);
    drop(daemon);
}
