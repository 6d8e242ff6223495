//! Sensors: kept running over crashes, returns, restarts and new code, until they are stopped.

use std::time::Duration;

use ibid_tests::{Home, eventually};
use serde_json::Value;

const SENSORS: &str = r#"
import os, time
from ibid import checkpoint, sensor, workflow
from marks import mark

@workflow(cache=True, retries=3)
def tick(began, beat):
    mark(f"tick {beat}")
    return beat

@sensor()
def ticker(every=0.05, beat=0, began=0.0):
    began = began or time.time()
    while True:
        tick.submit(began, beat)
        beat += 1
        checkpoint(every, beat, began)
        time.sleep(every)

@sensor()
def crashing(name, count=0):
    mark(f"start {name} {count}")
    checkpoint(name, count + 1)
    if count == 0:
        os._exit(3)
    if count == 1:
        raise ValueError("again")

@workflow()
def long():
    time.sleep(1.5)
    mark("long")

@sensor()
def starter():
    long.submit()
    time.sleep(60)

@workflow()
def not_a_sensor():
    checkpoint(1)
"#;

fn sensors(home: &Home) -> Vec<Value> {
    home.json(&["sensors"])["sensors"].as_array().cloned().unwrap_or_default()
}

fn beats(home: &Home) -> Vec<u64> {
    let marks = home.marks();
    marks.iter().filter_map(|mark| mark.strip_prefix("tick ")?.parse().ok()).collect()
}

fn wait_for_beats(home: &Home, count: usize) {
    eventually("the ticker ticks", Duration::from_secs(20), || (beats(home).len() >= count).then_some(()));
}

/// Workers run side by side, so beats may end out of order, but none is missing. Only one that a kill
/// interrupted after it had left its mark is made again.
fn assert_none_is_lost(home: &Home, kills: usize) {
    let mut beats = beats(home);
    let made = beats.len();
    beats.sort_unstable();
    beats.dedup();
    let expected: Vec<u64> = (0..beats.len() as u64).collect();
    assert_eq!(beats, expected);
    assert!(made - beats.len() <= kills, "{} beats were made again after {kills} kills", made - beats.len());
}

#[test]
fn a_ticker_keeps_its_beat_over_kills_of_the_daemon_and_its_worker() {
    let home = Home::new();
    let mut daemon = home.daemon();
    home.register("beats", SENSORS);
    let started = home.ok(&["sensor", "start", "beats/ticker"]);
    assert!(started.contains("is kept running"), "{started}");
    for round in 1..=3 {
        wait_for_beats(&home, beats(&home).len() + 5);
        daemon.kill();
        daemon = home.daemon();
        wait_for_beats(&home, beats(&home).len() + round);
    }
    // Its worker dies, too.
    let worker = home.json(&["workers"]).as_array().unwrap().iter().find_map(|worker| {
        let runs = worker["executions"].as_array()?;
        let sensor = runs.iter().any(|id| id.as_str().is_some_and(|id| id.starts_with("R1:1.")));
        worker["pid"].as_i64().filter(|_| sensor)
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(worker.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_for_beats(&home, beats(&home).len() + 5);
    home.ok(&["sensor", "stop", "beats/ticker"]);
    eventually("the last beats end", Duration::from_secs(10), || {
        let runs = home.json(&["rpc", "stats"])["result"].clone();
        (runs["running"].as_u64() == Some(0) && runs["queued"].as_u64() == Some(0)).then_some(())
    });
    assert_none_is_lost(&home, 3);
    let count = beats(&home).len();
    drop(daemon);
    let _daemon = home.daemon();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(beats(&home).len(), count, "a stopped sensor was started again");
}

#[test]
fn a_sensor_that_ends_is_started_again_after_a_back_off_from_its_checkpoint() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("beats", SENSORS);
    home.ok(&["sensor", "start", "beats/crashing", "a"]);
    eventually("it was started three times", Duration::from_secs(20), || (home.marks().len() >= 3).then_some(()));
    assert_eq!(&home.marks()[..3], ["start a 0", "start a 1", "start a 2"]);
    let attempts = home.json(&["show", "R1:1"])["step"]["attempts"].as_array().cloned().unwrap();
    let states: Vec<_> = attempts.iter().take(3).map(|attempt| attempt["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["abandoned", "failed", "succeeded"]);
    let waits: Vec<i64> =
        attempts.windows(2).map(|pair| pair[1]["due"].as_i64().unwrap() - pair[0]["ended"].as_i64().unwrap()).collect();
    assert_eq!(&waits[..2], [1000, 2000]);
    assert_eq!(home.why("R1:1.2"), "restarted");
    assert_eq!(sensors(&home)[0]["checkpoint"].as_str(), Some(r#""a", 3"#));
}

#[test]
fn there_is_one_instance_for_each_sensor_arguments_and_environment() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("beats", SENSORS);
    home.ok(&["sensor", "start", "beats/ticker", "0.05"]);
    assert!(home.ok(&["sensor", "start", "beats/ticker", "0.05"]).contains("was running already"));
    home.ok(&["sensor", "start", "beats/ticker", "60"]);
    assert_eq!(sensors(&home).len(), 2);
    wait_for_beats(&home, 4);
    // Stopping stops all instances; a start with the same arguments goes on from the checkpoint.
    home.ok(&["sensor", "stop", "beats/ticker"]);
    assert!(sensors(&home).iter().all(|sensor| sensor["state"] == "stopped"));
    assert!(home.ok(&["sensor", "start", "beats/ticker", "0.05"]).contains("from its checkpoint"));
    wait_for_beats(&home, beats(&home).len() + 3);
    home.ok(&["sensor", "stop", "beats/ticker"]);
    assert!(!home.ok(&["sensor", "start", "beats/ticker", "0.05", "--fresh"]).contains("checkpoint"));
    home.ok(&["cancel", sensors(&home).last().unwrap()["run"].as_str().unwrap()]);
    assert!(sensors(&home).iter().all(|sensor| sensor["state"] == "stopped"));
    let told = home.fails(1, &["sensor", "stop", "beats/ticker"]);
    assert!(told.contains("not running"), "{told}");
}

#[test]
fn new_code_restarts_a_sensor_from_its_checkpoint() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("beats", SENSORS);
    home.ok(&["sensor", "start", "beats/ticker"]);
    wait_for_beats(&home, 3);
    home.register("beats", &SENSORS.replace("mark(f\"tick {beat}\")", "mark(f\"tick {beat}\"); mark(\"new\")"));
    eventually("the new code ticks", Duration::from_secs(10), || {
        home.marks().iter().any(|mark| mark == "new").then_some(())
    });
    home.ok(&["sensor", "stop", "beats/ticker"]);
    eventually("the last beats end", Duration::from_secs(10), || {
        let runs = home.json(&["rpc", "stats"])["result"].clone();
        (runs["running"].as_u64() == Some(0) && runs["queued"].as_u64() == Some(0)).then_some(())
    });
    assert_none_is_lost(&home, 0);
}

#[test]
fn what_a_sensor_has_started_outlives_it() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("beats", SENSORS);
    home.ok(&["sensor", "start", "beats/starter"]);
    eventually("the run is there", Duration::from_secs(10), || {
        (home.json(&["runs"])["runs"].as_array()?.len() >= 2).then_some(())
    });
    home.ok(&["sensor", "stop", "beats/starter"]);
    assert_eq!(home.ok(&["result", "R2"]), "null");
    assert_eq!(home.marks(), ["long"]);
}

#[test]
fn sensors_are_not_run_or_called_and_others_are_no_sensors() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("beats", SENSORS);
    assert!(home.fails(2, &["run", "beats/ticker"]).contains("ibid sensor start"));
    assert!(home.fails(2, &["sensor", "start", "beats/tick", "1", "2"]).contains("not a sensor"));
    assert!(home.fails(4, &["sensor", "start", "beats/tikker"]).contains("beats/ticker"));
    assert!(home.fails(1, &["run", "beats/not_a_sensor"]).contains("checkpoint belongs to a sensor"));
}

#[test]
fn stopping_the_daemon_does_not_wait_for_sensors_and_they_go_on_after_the_start() {
    let home = Home::new();
    let daemon = home.daemon();
    home.register("beats", SENSORS);
    home.ok(&["sensor", "start", "beats/ticker"]);
    wait_for_beats(&home, 3);
    let begun = std::time::Instant::now();
    home.ok(&["daemon", "stop"]);
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(daemon);
    let before = beats(&home).len();
    let _daemon = home.daemon();
    wait_for_beats(&home, before + 3);
    assert_eq!(sensors(&home)[0]["state"].as_str(), Some("running"));
}
