//! A mixed load for a long time, and what becomes of the daemon's memory, descriptors and disk:
//! `cargo run --release -p ibid-tests --bin soak [MINUTES]`; two hours.
//!
//! All the while: a worker of the bare protocol whose jobs call parts with every option, Python tasks with
//! large values, failures and output, shell commands, clients that come and go, that subscribe, run again
//! and cancel. Every half minute what is older than a minute is pruned, results and runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ibid::blocking::Client;
use ibid::model::{Id, Json};
use ibid::protocol::{Cancel, GetResult, GetStats, Rerun, Scope, Submit, Subscribe, Topic};
use ibid_tests::worker::{REPOSITORY, Worker};
use ibid_tests::{Home, eventually};

const MODULE: &str = r#"
from ibid import log_info, task, workflow

@task(cache=20, retries=1)
def page(n):
    print("page", n, "x" * 200)
    log_info("fetched {n}", n=n)
    if n % 7 == 0:
        raise ValueError(f"no page {n}")
    return "y" * (n % 5 * 60_000)

@workflow
def site(n):
    return sum(len(one) for one in page.map([n, n + 1, n // 2]) if one) if n % 3 else page(n)
"#;

/// How wide a plot is, characters.
const WIDTH: usize = 72;

/// Half a minute between two prunings.
const PRUNING: Duration = Duration::from_secs(30);

/// What is measured, and how it is told.
struct Series {
    name: &'static str,
    unit: &'static str,
    values: Vec<f64>,
}

fn main() {
    let minutes: f64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(120.0);
    let length = Duration::from_secs_f64(minutes * 60.0);
    let home = Home::new();
    let daemon = home.daemon();
    home.register("sites", MODULE);
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let mut series = [
        Series { name: "memory of the daemon", unit: "MiB", values: Vec::new() },
        Series { name: "descriptors of the daemon", unit: "", values: Vec::new() },
        Series { name: "processes", unit: "", values: Vec::new() },
        Series { name: "disk", unit: "MiB", values: Vec::new() },
        Series { name: "done a second", unit: "", values: Vec::new() },
    ];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let Ok(worker) = Worker::attach(&home.socket(), 8, 3) else { panic!("no worker") };
            let _stopped = worker.work(|_| {});
        });
        eventually("the worker is there", Duration::from_secs(10), || {
            home.ok(&["targets"]).contains(REPOSITORY).then_some(())
        });
        for number in 0..3 {
            let (home, stop, done) = (&home, &stop, &done);
            scope.spawn(move || jobs(home, stop, done, number));
        }
        scope.spawn(|| sites(&home, &stop, &done));
        scope.spawn(|| commands(&home, &stop, &done));
        scope.spawn(|| watchers(&home, &stop));
        scope.spawn(|| pruning(&home, &stop));
        let begun = Instant::now();
        let step = length.div_f64(4.0 * WIDTH as f64).max(Duration::from_millis(500));
        let mut before = 0;
        while begun.elapsed() < length {
            std::thread::sleep(step);
            let now = done.load(Ordering::Relaxed);
            let pid = daemon.pid();
            let figures = [
                resident(pid),
                std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0.0, |all| all.count() as f64),
                processes(pid),
                on_disk(&home.data()) / 1024.0 / 1024.0,
                (now - before) as f64 / step.as_secs_f64(),
            ];
            before = now;
            for (one, figure) in series.iter_mut().zip(figures) {
                one.values.push(figure);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let stats = Client::connect(&home.socket()).and_then(|mut client| client.call(GetStats {}));
        println!(
            "{minutes} minutes, {} things done, {:?}",
            done.load(Ordering::Relaxed),
            stats.map(|s| (s.runs, s.executed, s.borrowed))
        );
        println!("{}", home.ok(&["doctor", "--verify"]));
        // Whoever waits for an answer is let go.
        daemon.kill();
    });
    for one in &series {
        one.plot();
    }
}

/// Runs of the bare worker, some of them run again, some cancelled.
fn jobs(home: &Home, stop: &AtomicBool, done: &AtomicU64, number: u64) {
    let mut turn = number;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(&home.socket()) else { return };
        // A client stays for a while.
        for _ in 0..200 {
            turn += 1;
            let arguments = vec![Json::from_serialize(&(turn % 500)).unwrap_or_else(|_| Json::null())];
            let submit = Submit { arguments, ..Submit::new(Scope::default(), format!("{REPOSITORY}/job")) };
            let Ok(submitted) = client.call(submit) else { return };
            let id = Id::Run(submitted.run);
            if turn.is_multiple_of(41) {
                let _over = client.call(Cancel { id, force: false });
            }
            if client.call(GetResult { id, wait: true, caller: None }).is_err() {
                return;
            }
            if turn.is_multiple_of(17) {
                let _pruned = client.call(Rerun { id, below: turn.is_multiple_of(2) });
            }
            done.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// An `ibid` command for each number in turn, with a pause; it may fail.
fn again(stop: &AtomicBool, done: &AtomicU64, pause: Duration, command: impl Fn(u64)) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        command(n);
        done.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(pause);
    }
}

fn sites(home: &Home, stop: &AtomicBool, done: &AtomicU64) {
    again(stop, done, Duration::from_millis(100), |n| {
        let _may_fail = home.ibid(&["run", "sites/site", &(n % 300).to_string()]);
    });
}

fn commands(home: &Home, stop: &AtomicBool, done: &AtomicU64) {
    again(stop, done, Duration::from_millis(150), |n| {
        let said = format!("echo {}; head -c {} /dev/zero", n % 20, n % 7 * 20_000);
        let _output = home.ibid(&["exec", "--cache=15s", "--", "sh", "-c", &said]);
    });
}

/// Clients that look on for a second and go without a word.
fn watchers(home: &Home, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(&home.socket()) else { return };
        for topic in [Topic::Runs { scope: None, limit: None }, Topic::Stats] {
            if client.call(Subscribe { topic }).is_err() {
                return;
            }
        }
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until && client.notice().is_ok() {}
    }
}

fn pruning(home: &Home, stop: &AtomicBool) {
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(200));
        if last.elapsed() > PRUNING {
            last = Instant::now();
            for what in ["cache", "runs"] {
                let pruned = home.ibid(&[what, "prune", "--older-than", "60s"]);
                assert!(pruned.status.success(), "{}", String::from_utf8_lossy(&pruned.stderr));
            }
        }
    }
}

fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).map_or(0.0, |kib| kib / 1024.0)
}

/// The daemon and all that descends from it.
fn processes(pid: u32) -> f64 {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let own = entry.file_name().to_string_lossy().parse::<u32>();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if let (Ok(own), Some(parent)) = (own, parent) {
            parents.push((own, parent));
        }
    }
    let mut found = vec![pid];
    let mut looked = 0;
    while let Some(&one) = found.get(looked) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(own, _)| *own));
        looked += 1;
    }
    found.len() as f64
}

fn on_disk(path: &Path) -> f64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => on_disk(&entry.path()),
            Ok(metadata) => (metadata.blocks() * 512) as f64,
            Err(_) => 0.0,
        })
        .sum()
}

impl Series {
    fn plot(&self) {
        const HEIGHT: usize = 8;
        let most = self.values.iter().copied().fold(1.0, f64::max);
        // Each column is the median of its part.
        let columns: Vec<f64> = (0..WIDTH).map(|column| self.median(column, WIDTH)).collect();
        println!("\n{} ({} first tenth, {} last tenth)", self.name, self.told(0), self.told(9));
        for row in (0..HEIGHT).rev() {
            let from = most * row as f64 / HEIGHT as f64;
            let line: String = columns
                .iter()
                .map(|value| {
                    let eighths = ((value - from) / most * HEIGHT as f64 * 8.0).clamp(0.0, 8.0).round() as usize;
                    [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][eighths]
                })
                .collect();
            let label = if row == HEIGHT - 1 { format!("{most:8.1}") } else { " ".repeat(8) };
            println!("{label} │{line}");
        }
        println!("{:>8} └{}", 0, "─".repeat(WIDTH));
    }

    fn median(&self, part: usize, parts: usize) -> f64 {
        let (from, to) = (part * self.values.len() / parts, (part + 1) * self.values.len() / parts);
        let mut values = self.values.get(from..to.max(from + 1)).unwrap_or_default().to_vec();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    }

    fn told(&self, tenth: usize) -> String {
        format!("{:.1} {}", self.median(tenth, 10), self.unit).trim().to_owned()
    }
}
