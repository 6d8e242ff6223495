//! Keeping and pruning: what goes, what stays, and that the space comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ibid_tests::{Home, eventually};
use serde_json::Value;

const MODULE: &str = r#"
from ibid import task, workflow
from marks import mark

@task(cache=True)
def page(name, size=300_000):
    mark(f"page {name}")
    print("made", name)
    return name * size

@task(cache=True)
def small(x):
    return x

@workflow()
def make(names, size=300_000):
    return [len(page(name, size)) for name in names]

@workflow()
def echo(x):
    return small(x)
"#;

fn home() -> Home {
    let home = Home::new();
    home.write("m.py", MODULE);
    home
}

fn count(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or_else(|| panic!("{member}: {value}"))
}

fn marks(home: &Home) -> usize {
    home.marks().len()
}

#[test]
fn pruned_results_are_made_again_and_their_space_comes_back() {
    let home = home();
    let _daemon = home.daemon();
    home.ok(&["register", "m"]);
    home.ok(&["run", "m/make", r#"["a","b","c"]"#]);
    assert_eq!(marks(&home), 3);
    // Nothing is that old.
    let none = home.json(&["cache", "prune", "--older-than", "1h"]);
    assert_eq!((count(&none, "results"), count(&none, "values")), (0, 0));
    let said = home.json(&["cache", "prune", "--older-than", "0", "--dry-run"]);
    assert_eq!((count(&said, "results"), count(&said, "values")), (3, 3));
    assert!(count(&said, "bytes") >= 900_000, "{said}");
    home.ok(&["run", "m/make", r#"["a"]"#]);
    assert_eq!(marks(&home), 3, "a dry run removed something");
    // The result that R2 took is that of a run that is kept, so it stays.
    let done = home.json(&["cache", "prune", "--older-than", "0"]);
    assert_eq!((count(&done, "results"), count(&done, "values")), (2, 2));
    let back = count(&done, "disk_before") - count(&done, "disk_after");
    assert!(back >= 550_000, "{done}");
    home.ok(&["run", "m/make", r#"["a","b","c"]"#]);
    assert_eq!(marks(&home), 5);
    // The record is still there and says what became of its value.
    let told = home.fails(1, &["result", "R1:3"]);
    assert!(told.contains("pruned") && told.contains("ibid rerun"), "{told}");
    assert_eq!(home.json(&["show", "R1:3"])["execution"]["state"], "succeeded");
    home.ok(&["rerun", "R1:3", "--wait"]);
    assert_eq!(home.ok(&["result", "R1:3", "--raw"]).len(), 300_000);
}

#[test]
fn pinned_results_the_latest_and_shared_values_stay() {
    let home = home();
    let _daemon = home.daemon();
    home.ok(&["register", "m"]);
    home.ok(&["run", "m/make", r#"["a","b","c","d"]"#]);
    home.ok(&["cache", "pin", "R1:2"]);
    let done = home.json(&["cache", "prune", "--namespace", "m:page", "--keep-latest", "1"]);
    assert_eq!(count(&done, "results"), 2);
    home.ok(&["run", "m/make", r#"["a","d"]"#]);
    assert_eq!(marks(&home), 4, "what was pinned or latest was made again");
    // By size: the oldest go until the rest fits; what must stay counts.
    let done = home.json(&["cache", "prune", "--max-size", "650kB"]);
    assert_eq!(count(&done, "results"), 0);
    home.ok(&["cache", "unpin", "R1:2"]);
    home.ok(&["runs", "prune", "--keep-latest", "1", "--namespace", "m:make"]);
    let done = home.json(&["cache", "prune", "--namespace", "m:page", "--max-size", "350kB"]);
    assert_eq!(count(&done, "results"), 0, "R2 took both: {done}");
    // A value that is also an argument of something kept is not removed with a result.
    home.ok(&["run", "m/make", r#"["x"]"#, "5000"]);
    let text = "x".repeat(5000);
    home.ok(&["run", "m/echo", &format!("\"{text}\"")]);
    let done = home.json(&["cache", "prune", "--older-than", "0"]);
    assert_eq!((count(&done, "results"), count(&done, "values")), (2, 0), "{done}");
    assert_eq!(home.ok(&["rerun", "R4", "--wait"]), "R4:1.2");
    assert_eq!(home.ok(&["result", "R4", "--raw"]), text);
}

#[test]
fn pruned_runs_are_gone_with_their_logs_but_their_results_can_still_be_taken() {
    let home = home();
    let daemon = home.daemon();
    home.ok(&["register", "m"]);
    home.ok(&["run", "m/make", r#"["a","b"]"#, "--idempotency-key", "k"]);
    home.ok(&["run", "m/echo", "1"]);
    assert!(home.ok(&["logs", "R1"]).contains("made a"));
    let said = home.json(&["runs", "prune", "--keep-latest", "0", "--namespace", "m:make", "--dry-run"]);
    assert_eq!((count(&said, "runs"), count(&said, "steps")), (1, 1));
    let done = home.json(&["runs", "prune", "--keep-latest", "0", "--namespace", "m:make"]);
    assert_eq!((count(&done, "runs"), count(&done, "steps")), (1, 1));
    let told = home.fails(4, &["show", "R1"]);
    assert!(told.contains("there is no R1"), "{told}");
    assert_eq!(home.json(&["runs"])["runs"].as_array().unwrap().len(), 1);
    // Their results are remembered on, and say where they come from.
    assert_eq!(home.ok(&["run", "m/make", r#"["a","b"]"#, "--idempotency-key", "k"]), "[300000,300000]");
    assert_eq!(marks(&home), 2);
    assert!(home.ok(&["why", "R3:2"]).contains("R1:2.1"));
    assert!(home.ok(&["cache", "ls", "m:page"]).contains('a'));
    // All of it over again from the disk.
    daemon.kill();
    let _daemon = home.daemon();
    assert_eq!(home.ok(&["run", "m/make", r#"["a","b"]"#]), "[300000,300000]");
    assert_eq!(marks(&home), 2);
    // Without any run that took them they go with the cache.
    home.ok(&["runs", "prune", "--keep-latest", "0"]);
    let done = home.json(&["cache", "prune", "--older-than", "0"]);
    assert_eq!((count(&done, "results"), count(&done, "values")), (3, 2), "{done}");
    home.ok(&["run", "m/make", r#"["a"]"#]);
    assert_eq!(marks(&home), 3);
}

#[test]
fn nothing_is_left_of_runs_that_took_a_result_that_stays() {
    let home = home();
    let _daemon = home.daemon();
    home.ok(&["register", "m"]);
    let records = || {
        for _ in 0..10 {
            home.ok(&["run", "m/make", r#"["a"]"#]);
        }
        home.ok(&["runs", "prune", "--keep-latest", "1"]);
        home.json(&["rpc", "store.verify"])["result"]["records"].as_u64().unwrap()
    };
    let before = records();
    assert_eq!(records(), before);
}

#[test]
fn unfinished_work_is_never_pruned() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "w",
        "import os, time\nfrom ibid import task, workflow\n\n@task(cache=True)\ndef big():\n    return 'y' * 200_000\n\n@workflow()\ndef hold():\n    first = big()\n    while not os.path.exists('go'):\n        time.sleep(0.01)\n    return [len(first), len(big())]\n",
    );
    let run = home.ok(&["submit", "w/hold"]);
    eventually("it has its first part", Duration::from_secs(10), || {
        (home.json(&["show", &run])["children"][0]["state"] == "succeeded").then_some(())
    });
    assert_eq!(count(&home.json(&["runs", "prune", "--older-than", "0"]), "runs"), 0);
    home.ok(&["cache", "prune", "--older-than", "0"]);
    home.write("go", "");
    assert_eq!(home.ok(&["result", &run]), "[200000,200000]");
}

#[test]
fn work_goes_on_while_it_is_pruned_and_gets_only_right_results() {
    let home = home();
    let _daemon = home.daemon();
    home.ok(&["register", "m"]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                home.ok(&["runs", "prune", "--keep-latest", "1"]);
                home.ok(&["cache", "prune", "--older-than", "0"]);
                rounds += 1;
            }
            rounds
        });
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..12 {
                        let made = home.ok(&["run", "m/make", r#"["a","b","c","d"]"#, "100000"]);
                        assert_eq!(made, "[100000,100000,100000,100000]");
                        let text = "z".repeat(70_000);
                        let echoed = home.ok(&["run", "m/echo", &format!("\"{text}\"")]);
                        assert_eq!(echoed.len(), 70_002);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(pruning.join().unwrap() > 1);
    });
}

#[test]
fn pruning_must_be_told_what_may_go() {
    let home = home();
    let _daemon = home.daemon();
    for line in [&["cache", "prune"][..], &["runs", "prune", "--dry-run"], &["cache", "prune", "--max-size", "much"]] {
        assert!(!home.fails(2, line).is_empty());
    }
    home.fails(4, &["-p", "nowhere", "cache", "prune", "--older-than", "1d"]);
}
