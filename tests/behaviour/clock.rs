//! The system's clock is set while the daemon works: nothing hangs, and no age becomes absurd.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use ibid_tests::{Home, eventually};

const MODULE: &str = r#"
from ibid import task, workflow
from marks import mark

@task(cache=3600)
def page(n):
    mark(f"page {n}")
    return n

@task(retries=(1, 1.5))
def fails_once(n):
    mark("try")
    if len(open("marks").read().split("try")) < 3:
        raise ValueError("not yet")
    return n

@workflow
def read(n):
    return page(n)

@workflow
def again(n):
    return fails_once(n)
"#;

/// The library that shifts a program's clock, where it is installed.
fn library() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib64/faketime"];
    places.iter().map(|place| Path::new(place).join("libfaketime.so.1")).find(|path| path.exists())
}

/// A daemon whose clock is what a file says.
struct Shifted<'a> {
    home: &'a Home,
    child: Child,
}

impl<'a> Shifted<'a> {
    fn start(home: &'a Home) -> Option<Self> {
        let library = library()?;
        let log = std::fs::File::create(home.path().join("daemon.log")).unwrap();
        home.write("clock", "+0");
        let child = home
            .daemon_command()
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", home.path().join("clock"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        eventually("it serves", Duration::from_secs(10), || home.ibid(&["runs"]).status.success().then_some(()));
        Some(Self { home, child })
    }

    /// Sets the clock off by so much, e.g. `-1d`.
    fn set(&self, shift: &str) {
        self.home.write("clock", shift);
    }
}

impl Drop for Shifted<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[test]
fn a_clock_that_is_set_back_or_forward_neither_holds_up_work_nor_makes_results_timeless() {
    let home = Home::new();
    let Some(daemon) = Shifted::start(&home) else {
        eprintln!("skipped: libfaketime is not installed");
        return;
    };
    home.register("work", MODULE);
    assert_eq!(home.ok(&["run", "work/read", "1"]), "1");
    // A day later it is too old, and made again.
    daemon.set("+1d");
    assert_eq!(home.ok(&["run", "work/read", "1"]), "1");
    assert_eq!(home.marks(), ["page 1", "page 1"]);
    // Back again it comes from the future: it is as young as can be.
    daemon.set("+0");
    assert_eq!(home.ok(&["run", "work/read", "1"]), "1");
    assert_eq!(home.marks().len(), 2);
    let why = home.ok(&["why", "R3:2"]);
    assert!(why.contains("R2:2.1, which was 0 ms old"), "{why}");
    // A day back in the middle of the wait before a retry: it comes when it would have.
    std::fs::remove_file(home.path().join("marks")).unwrap();
    let begun = Instant::now();
    home.ok(&["submit", "work/again", "7"]);
    eventually("the first try has failed", Duration::from_secs(10), || (home.marks().len() == 1).then_some(()));
    daemon.set("-1d");
    eventually("it is tried again", Duration::from_secs(20), || (home.marks().len() == 2).then_some(()));
    eventually("it has ended", Duration::from_secs(10), || home.ibid(&["result", "R4"]).status.success().then_some(()));
    assert!(begun.elapsed() >= Duration::from_millis(1400), "it was tried again at once");
    // Nothing lasts less than no time.
    let shown = home.json(&["show", "R4"]);
    assert!(!shown.to_string().contains("\"duration\":-"), "{shown}");
    // A restart in the past goes on with what the future had left.
    drop(daemon);
    let _daemon = home.daemon();
    assert_eq!(home.ok(&["result", "R4"]), "7");
    assert_eq!(home.ok(&["run", "work/read", "2"]), "2");
}
