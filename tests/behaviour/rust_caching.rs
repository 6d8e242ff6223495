//! What caching promises, section by section, for tasks in Rust (`tests/rust/caching.rs`).

use std::time::Duration;

use ibid_tests::{Daemon, Home, binaries};

fn home() -> (Home, Daemon) {
    let home = Home::new();
    let daemon = home.daemon();
    home.ok(&["register", "--bin", &binaries().join("rust-tasks").display().to_string()]);
    (home, daemon)
}

/// Starts a workflow and returns its run and result.
#[track_caller]
fn run(home: &Home, target: &str, arguments: &[&str]) -> (String, String) {
    let run = home.ok(&[&["submit", &format!("rust-tasks/{target}")], arguments].concat());
    let result = home.ok(&["result", &run]);
    (run, result)
}

fn marks(home: &Home, name: &str) -> usize {
    home.marks().iter().filter(|mark| mark.as_str() == name).count()
}

#[test]
fn a_call_with_the_same_arguments_is_not_executed_again() {
    let (home, _daemon) = home();
    assert_eq!(run(&home, "total", &["1", "2"]).1, "[3,3,3]");
    let (second, result) = run(&home, "total", &["1", "2"]);
    assert_eq!(result, "[3,3,3]");
    assert_eq!(marks(&home, "plus"), 1);
    assert_eq!(home.why(&format!("{second}:2")), "hit");
    run(&home, "total", &["1", "3"]);
    assert_eq!(marks(&home, "plus"), 2);
    assert_eq!(home.why("R3:2"), "no_match");
}

#[test]
fn a_maximum_age_is_a_number_of_seconds_or_a_text() {
    let (home, _daemon) = home();
    run(&home, "feeds", &["1"]);
    run(&home, "feeds", &["1"]);
    assert_eq!((marks(&home, "newest"), marks(&home, "oldest")), (1, 1));
    std::thread::sleep(Duration::from_millis(800));
    let (third, _) = run(&home, "feeds", &["1"]);
    assert_eq!((marks(&home, "newest"), marks(&home, "oldest")), (2, 2));
    assert_eq!(home.why(&format!("{third}:2")), "too_old");
}

#[test]
fn raising_and_lowering_the_age_takes_effect_on_old_results() {
    let (home, _daemon) = home();
    run(&home, "looks", &["3600000"]);
    std::thread::sleep(Duration::from_millis(150));
    let (second, _) = run(&home, "looks", &["50"]);
    assert_eq!(home.why(&format!("{second}:2")), "too_old");
    std::thread::sleep(Duration::from_millis(150));
    let (third, _) = run(&home, "looks", &["3600000"]);
    assert_eq!(home.why(&format!("{third}:2")), "hit");
    assert_eq!(marks(&home, "look"), 2);
}

#[test]
fn a_date_as_argument_ends_the_reuse_with_the_day() {
    let (home, _daemon) = home();
    run(&home, "press", &["2026-01-01"]);
    run(&home, "press", &["2026-01-01"]);
    assert_eq!(marks(&home, "headlines"), 1);
    let (next_day, _) = run(&home, "press", &["2026-01-02"]);
    assert_eq!(marks(&home, "headlines"), 2);
    let why = home.json(&["why", &format!("{next_day}:2")]);
    assert!(why["sentence"].as_str().unwrap().contains("argument day differs"), "{why}");
}

#[test]
fn calls_made_before_the_first_has_ended_are_linked_to_it_and_fail_with_it() {
    let (home, _daemon) = home();
    let (first, result) = run(&home, "twice", &["4"]);
    assert_eq!(result, r#"["8","8"]"#);
    assert_eq!(marks(&home, "slow"), 1);
    assert_eq!(home.why(&format!("{first}:3")), "linked");
    assert_eq!(run(&home, "twice", &["-4"]).1, r#"["no -4","no -4"]"#);
    assert_eq!(marks(&home, "slow"), 2);
    let (again, _) = run(&home, "twice", &["-4"]);
    assert_eq!(marks(&home, "slow"), 3);
    assert_eq!(home.why(&format!("{again}:2")), "last_failed");
}

#[test]
fn an_own_key_ignores_the_arguments_that_it_leaves_out() {
    let (home, _daemon) = home();
    assert_eq!(run(&home, "shop", &["7", "a.example"]).1, "\"a.example\"");
    assert_eq!(run(&home, "shop", &["7", "b.example"]).1, "\"a.example\"");
    assert_eq!(run(&home, "shop", &["8", "b.example"]).1, "\"b.example\"");
    assert_eq!(marks(&home, "article"), 2);
}

#[test]
fn a_renamed_task_keeps_its_results_and_two_can_share_a_namespace() {
    let (home, _daemon) = home();
    assert_eq!(run(&home, "renames", &[]).1, "[5,5]");
    assert_eq!(marks(&home, "renamed"), 1);
    assert_eq!(run(&home, "pair", &[]).1, r#"["left 1","left 1","right 2","right 2"]"#);
}

#[test]
fn a_workflow_is_remembered_when_it_is_called_but_not_when_it_is_started_by_hand() {
    let (home, _daemon) = home();
    run(&home, "child", &[]);
    run(&home, "child", &[]);
    assert_eq!(marks(&home, "child"), 2);
    assert_eq!(home.why("R2"), "by_hand");
    assert_eq!(run(&home, "parent", &[]).1, "2");
    assert_eq!(run(&home, "parent", &[]).1, "2");
    assert_eq!(marks(&home, "child"), 3);
    assert_eq!(home.json(&["show", "R3:2"])["execution"]["run"], "R4");
    assert_eq!(home.why("R5:2"), "hit");
    // Unless the start opts in.
    home.ok(&["run", "rust-tasks/alone", "1", "--use-cache"]);
    assert_eq!(home.ok(&["run", "rust-tasks/alone", "1", "--use-cache=10m"]), "1");
    assert_eq!(marks(&home, "alone"), 1);
    let told = home.fails(2, &["run", "rust-tasks/keyed", "1", "--use-cache"]);
    assert!(told.contains("--cache-key"), "{told}");
}

#[test]
fn a_re_run_ignores_the_cache_and_is_what_later_calls_get() {
    let (home, _daemon) = home();
    assert_eq!(run(&home, "clock", &[]).1, "1");
    assert_eq!(run(&home, "clock", &[]).1, "1");
    assert_eq!(home.ok(&["rerun", "R2:2", "--wait"]), "R2:2.2");
    assert_eq!(home.why("R2:2.2"), "forced");
    assert_eq!(home.ok(&["result", "R2:2"]), "2");
    assert_eq!(home.ok(&["result", "R1:2"]), "1");
    let (third, result) = run(&home, "clock", &[]);
    assert_eq!(result, "2");
    assert_eq!(home.json(&["show", &format!("{third}:2")])["execution"]["source"], "R2:2.2");
}

#[test]
fn each_condition_of_a_hit_has_a_reason_of_its_own() {
    let (home, _daemon) = home();
    run(&home, "conditions", &["fits"]);
    let mut made = 1;
    for (how, why) in [
        ("fits", "hit"),
        ("off", "off"),
        ("arguments", "no_match"),
        ("namespace", "no_match"),
        ("version", "other_version"),
        ("age", "too_old"),
        ("uncached", "off"),
        ("after the uncached", "no_match"),
    ] {
        let (id, _) = run(&home, "conditions", &[how]);
        let reason = home.json(&["why", &format!("{id}:2")]);
        assert_eq!(reason["kind"], why, "{how}: {reason}");
        made += usize::from(!matches!(how, "fits" | "namespace"));
        assert_eq!(marks(&home, "versioned"), made, "{how}");
    }
    home.write("marks-broken", "");
    home.fails(1, &["run", "rust-tasks/conditions", "failed"]);
    std::fs::remove_file(home.path().join("marks-broken")).unwrap();
    let (id, _) = run(&home, "conditions", &["after the failed"]);
    assert_eq!(home.why(&format!("{id}:2")), "last_failed");
    // Of another environment that is not based on this one.
    home.ok(&["register", "-e", "other", "--bin", &binaries().join("rust-tasks").display().to_string()]);
    let other = home.ok(&["submit", "-e", "other", "rust-tasks/conditions", "environment"]);
    home.ok(&["result", &other]);
    assert_eq!(home.why(&format!("{other}:2")), "other_environment");
    assert_eq!(marks(&home, "versioned"), made + 1);
}

#[test]
fn explaining_a_start_says_what_would_happen_and_starts_nothing() {
    let (home, _daemon) = home();
    run(&home, "total", &["1", "2"]);
    let explained = home.json(&["run", "rust-tasks/total", "1", "2", "--explain"]);
    assert_eq!(explained["like"], "R1");
    let kinds: Vec<_> =
        explained["calls"].as_array().unwrap().iter().map(|call| call["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["by_hand", "hit", "hit", "hit"]);
    assert_eq!(home.json(&["runs"])["runs"].as_array().unwrap().len(), 1);
}
