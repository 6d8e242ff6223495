//! What executions write: kept to a limit, searched, and no burden for others.

use std::time::{Duration, Instant};

use ibid_tests::{Home, eventually};

const MODULE: &str = r#"
import sys, time
from ibid import log_info, log_warning, task, workflow

@workflow()
def flood(lines):
    for n in range(lines):
        print(f"line {n:08}")

@workflow()
def noisy(seconds):
    """As many lines as it can."""
    n, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        sys.stdout.write("".join(f"a line of ordinary length {n + k:08}\n" for k in range(100)))
        n += 100
    return n

@task()
def quick(n):
    return n

@workflow()
def quiet():
    return sum(quick(n) for n in range(50))

@workflow()
def words():
    for n in range(200):
        print(f"printed {n}")
        log_info("told {n}", n=n)
    print("Nothing here")
    log_info("fetched {page} in {ms} ms", page="Ada", ms=12)
    log_warning("slow: {page}", page="Bob")
    print("needle in stdout")
    sys.stderr.write("NEEDLE in stderr\n")
"#;

#[test]
fn logs_are_searched_by_text_and_values() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("talk", MODULE);
    home.ok(&["run", "talk/words"]);
    let all = home.ok(&["logs", "R1"]);
    let order = ["Nothing here", "fetched Ada in 12 ms", "slow: Bob", "needle in stdout"];
    let places: Vec<_> = order.iter().map(|text| all.find(text).unwrap_or_else(|| panic!("{text}: {all}"))).collect();
    assert!(places.is_sorted(), "{all}");
    // Output and messages take different ways, and stay in order all the same.
    let numbers: Vec<&str> = all.lines().filter(|line| line.contains("printed ") || line.contains("told ")).collect();
    for (place, pair) in numbers.chunks(2).enumerate() {
        assert!(pair[0].ends_with(&format!("printed {place}")), "{place}: {pair:?}");
        assert!(pair[1].contains(&format!("told {place} ")), "{place}: {pair:?}");
    }
    let found = home.ok(&["logs", "R1", "--grep", "needle"]);
    assert_eq!(found.lines().count(), 2, "{found}");
    assert_eq!(home.ok(&["logs", "R1", "--grep", "page=\"bob"]).lines().count(), 1);
    assert_eq!(home.ok(&["logs", "R1", "--grep", "absent"]), "");
}

#[test]
fn the_limit_of_a_log_is_configurable_and_what_was_dropped_is_counted() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().join("config/ibid")).unwrap();
    home.write("config/ibid/config.toml", "log_limit = \"128KiB\"\n");
    let _daemon = home.daemon();
    home.register("talk", MODULE);
    home.ok(&["run", "talk/flood", "20000"]);
    let log = home.ok(&["logs", "R1"]);
    let kept = log.lines().count() - 1;
    let told: usize = log.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(log.contains("earlier lines were dropped"), "{}", &log[..200]);
    assert_eq!(kept + told, 20_000);
    assert!(log.ends_with("line 00019999"), "{}", &log[log.len() - 100..]);
    assert!((1000..6000).contains(&kept), "{kept} lines are kept");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().join("config/ibid")).unwrap();
    home.write("config/ibid/config.toml", "log_limit = 1\nprocesess = 3\n");
    let told = home.fails(3, &["daemon", "start"]);
    assert!(told.contains("config.toml") && told.contains("processes"), "{told}");
}

#[test]
fn one_that_writes_without_pause_does_not_stop_the_others() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("talk", MODULE);
    let run = home.ok(&["submit", "talk/noisy", "4"]);
    eventually("it writes", Duration::from_secs(10), || (!home.ok(&["logs", &run]).is_empty()).then_some(()));
    let begun = Instant::now();
    assert_eq!(home.ok(&["run", "talk/quiet"]), "1225");
    let took = begun.elapsed();
    let lines: u64 = home.ok(&["result", &run]).parse().unwrap();
    eprintln!("{} lines/s, while fifty calls took {took:?}", lines / 4);
    let last = home.ok(&["logs", &run]);
    assert!(last.ends_with(&format!("{:08}", lines - 1)), "the end of the log is missing");
}
