//! How fast, how large: every figure beside a floor that is measured in the same run.
//!
//! `cargo run --release -p ibid-tests --bin bench [stored executions …]`; without numbers
//! 10,000 and 100,000. Nothing here is a test: no figure fails.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ibid::blocking::Client;
use ibid::model::{Cache, Id};
use ibid::protocol::{GetResult, GetStats};
use ibid_tests::{Home, binaries};

use ibid_tests::driver::{Driver, JsonDriver};

/// Calls in one measurement of latency.
const SINGLE: u64 = 3000;
/// Keys that are hot.
const HOT: u64 = 10_000;

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

fn rate(count: u64, time: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown to people")]
    let per_second = count as f64 / time.as_secs_f64();
    format!("{per_second:.0}/s")
}

fn show(what: &str, figure: &str) {
    println!("| {what} | {figure} |");
}

/// A request and reply of 100 bytes over a Unix socket, between two threads: the floor.
fn socket_floor() -> Duration {
    let (mut near, mut far) = UnixStream::pair().unwrap_or_else(|error| panic!("{error}"));
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while far.read_exact(&mut buffer).is_ok() && far.write_all(&buffer).is_ok() {}
    });
    let mut buffer = [0; 100];
    let mut samples = Vec::new();
    for _ in 0..SINGLE {
        let begun = Instant::now();
        near.write_all(&buffer).unwrap_or_else(|error| panic!("{error}"));
        near.read_exact(&mut buffer).unwrap_or_else(|error| panic!("{error}"));
        samples.push(begun.elapsed());
    }
    drop(near);
    // It ends when its end of the pair is closed.
    let _ended = echo.join();
    median(samples)
}

/// What depends on how much is stored.
fn at_size(stored: u64) {
    let home = Home::new();
    let daemon = home.daemon();
    println!("\n### {stored} stored executions\n\n| what | figure |\n|---|---|");
    let mut driver = Driver::start(&home);
    let begun = Instant::now();
    driver.execute(0..stored, Cache::On);
    show("no-op executions, bare worker, durable", &rate(stored, begun.elapsed()));

    let floor = socket_floor();
    show("floor: socket round trip, 100 bytes", &micros(floor));
    let single = median((0..SINGLE).map(|n| driver.hit(n % HOT.min(stored))).collect());
    let ratio = single.as_secs_f64() / floor.as_secs_f64();
    show("hit, one at a time, postcard", &format!("{} ({ratio:.2} × the floor)", micros(single)));
    let begun = Instant::now();
    driver.hits((0..200_000).map(|n| n % HOT.min(stored)));
    show("hits, 64 deep, hot keys", &rate(200_000, begun.elapsed()));
    let begun = Instant::now();
    // A stride that is prime to the count visits the keys in no order.
    driver.hits((0..100_000).map(|n| n * 7_919_317 % stored));
    show("hits, 64 deep, uniform", &rate(100_000, begun.elapsed()));
    let begun = Instant::now();
    driver.execute(0..20_000, Cache::Off);
    show("no-op executions, bare worker, durable, at this size", &rate(20_000, begun.elapsed()));
    let followers = 100_000;
    let took = driver.links(followers, stored + 1, &home);
    show("one leader with 100,000 followers resolved", &format!("{:.0} ms", took.as_secs_f64() * 1e3));
    drop(driver);

    let mut json = JsonDriver::start(&home);
    let single = median((0..SINGLE).map(|n| json.hit(n % HOT.min(stored))).collect());
    show("hit, one at a time, JSON lines", &micros(single));
    drop(json);

    let mut client = Client::connect(&home.socket()).unwrap_or_else(|error| panic!("{error}"));
    let stats = client.call(GetStats {}).unwrap_or_else(|error| panic!("{error}"));
    let executions = stats.executed + stats.borrowed;
    show("store on disk, an execution or hit", &format!("{} B", stats.disk_bytes / executions.max(1)));
    drop(client);

    home.ok(&["daemon", "stop", "--drain", "0"]);
    drop(daemon);
    restarted(&home, "after a clean stop").kill();
    let daemon = restarted(&home, "again");
    daemon.kill();
    drop(restarted(&home, "after kill -9"));
}

fn restarted(home: &Home, when: &str) -> ibid_tests::Daemon {
    let begun = Instant::now();
    let daemon = home.daemon();
    let took = begun.elapsed();
    let mut client = Client::connect(&home.socket()).unwrap_or_else(|error| panic!("{error}"));
    let stats = client.call(GetStats {}).unwrap_or_else(|error| panic!("{error}"));
    show(
        &format!("start to first answer, {when}"),
        &format!("{} ms, {} MiB resident", took.as_millis(), stats.memory_bytes / 1024 / 1024),
    );
    daemon
}

const PYTHON: &str = r#"
import time
from ibid import task, workflow

@task()
def noop(n):
    return n

@task(cache=True)
def kept(n):
    return n

@task(cache=True)
def fib(n):
    if n < 2:
        return n
    a, b = fib.submit(n - 1), fib.submit(n - 2)
    return a.result() + b.result()

@task(cache=True)
def second(n):
    time.sleep(1)

@workflow()
def noops(count):
    begun = time.perf_counter()
    for execution in noop.map(range(count)):
        execution.result()
    return count / (time.perf_counter() - begun)

@workflow()
def one_by_one(count):
    noop(-1)
    begun = time.perf_counter()
    for n in range(count):
        noop(n)
    return (time.perf_counter() - begun) / count * 1e3

@workflow()
def hits(count):
    for execution in kept.map(range(count)):
        execution.result()
    begun = time.perf_counter()
    for n in range(count):
        kept(n)
    single = (time.perf_counter() - begun) / count * 1e6
    begun = time.perf_counter()
    for execution in kept.map(range(count)):
        execution.result()
    return [single, (time.perf_counter() - begun) / count * 1e6]

@workflow()
def fibonacci(n):
    begun = time.perf_counter()
    fib(n)
    return (time.perf_counter() - begun) * 1e3

@workflow()
def fifty():
    begun = time.perf_counter()
    for execution in second.map([1] * 50):
        execution.result()
    return time.perf_counter() - begun
"#;

/// What Python programs see.
fn python() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write("speed.py", PYTHON);
    home.ok(&["register", "speed"]);
    home.ok(&["run", "speed/noops", "200"]);
    println!("\n### Python workers\n\n| what | figure |\n|---|---|");
    show(
        "no-op executions, durable, 20,000 in one batch",
        &format!("{:.0}/s", number(&home.ok(&["run", "speed/noops", "20000"]))),
    );
    show(
        "one no-op call after the other, durable",
        &format!("{:.2} ms each", number(&home.ok(&["run", "speed/one_by_one", "2000"]))),
    );
    let hits: Vec<f64> = serde_json::from_str(&home.ok(&["run", "speed/hits", "3000"])).unwrap_or_default();
    show("hit inside an execution, one at a time", &format!("{:.0} µs", hits.first().copied().unwrap_or(0.0)));
    show("hits in one batch", &format!("{:.1} µs each", hits.get(1).copied().unwrap_or(0.0)));
    show(
        "recursive fib(20) in parallel, warm",
        &format!("{:.0} ms", number(&home.ok(&["run", "speed/fibonacci", "20"]))),
    );
    show("50 identical one-second calls", &format!("{:.3} s", number(&home.ok(&["run", "speed/fifty"]))));
    let mut client = Client::connect(&home.socket()).unwrap_or_else(|error| panic!("{error}"));
    let run = home.ok(&["submit", "speed/fifty"]);
    let id = run.parse::<Id>().unwrap_or_else(|error| panic!("{error}"));
    let begun = Instant::now();
    client.call(GetResult { id, wait: true, caller: None }).unwrap_or_else(|error| panic!("{error}"));
    show("the same again", &format!("{:.1} ms", begun.elapsed().as_secs_f64() * 1e3));
}

/// What Rust programs see.
fn rust() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.ok(&["register", "--bin", &binaries().join("rust-tasks").display().to_string()]);
    home.ok(&["run", "rust-tasks/noops", "200"]);
    println!("\n### Rust workers\n\n| what | figure |\n|---|---|");
    let mut rates: Vec<f64> = (0..5).map(|_| number(&home.ok(&["run", "rust-tasks/noops", "20000"]))).collect();
    rates.sort_by(f64::total_cmp);
    show("no-op executions, durable, 20,000 in one batch (median of 5)", &format!("{:.0}/s", rates[2]));
    show(
        "one no-op call after the other, durable",
        &format!("{:.2} ms each", number(&home.ok(&["run", "rust-tasks/one_by_one", "2000"]))),
    );
    let hits: Vec<f64> = serde_json::from_str(&home.ok(&["run", "rust-tasks/hits", "3000"])).unwrap_or_default();
    show("hit inside an execution, one at a time", &format!("{:.0} µs", hits.first().copied().unwrap_or(0.0)));
    show("hits in one batch", &format!("{:.1} µs each", hits.get(1).copied().unwrap_or(0.0)));
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000] } else { sizes };
    python();
    rust();
    for size in sizes {
        at_size(size);
    }
}
