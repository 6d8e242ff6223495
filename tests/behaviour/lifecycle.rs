//! The daemon comes, goes, and comes back.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use ibid_tests::home::binaries;
use ibid_tests::{Home, JsonClient, eventually};
use rustix::process::Signal;
use serde_json::json;

const MODULE: &str = r#"
import time
from ibid import task, workflow
from marks import mark

@task(cache=True)
def part(n):
    mark(f"part {n}")
    time.sleep(0.3)
    return n

@workflow(retries=3)
def slow(n):
    return part(n)

@workflow()
def once(n):
    mark(f"once {n}")
    time.sleep(n)
    return n
"#;

#[test]
fn the_daemon_starts_by_itself_and_says_so_once() {
    let home = Home::new();
    let mut command = home.command(&[]);
    let program = command.get_program().to_owned();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(home.path());
        command.env("IBID_DATA_DIR", home.data()).env("IBID_SOCKET", home.socket());
        command.output().unwrap()
    };
    assert_eq!(command.arg("runs").output().unwrap().status.code(), Some(3));
    let first = run(&["runs"]);
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(said.contains("started the daemon") && said.lines().count() == 1, "{said}");
    assert!(run(&["runs"]).stderr.is_empty());
    let status = run(&["daemon", "status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("pid"));
    assert!(run(&["daemon", "stop"]).status.success());
    assert_eq!(run(&["daemon", "status"]).status.code(), Some(3));
}

#[test]
fn many_commands_at_once_start_one_daemon() {
    let home = Home::new();
    binaries();
    let spawn = || {
        let mut command = Command::new(binaries().join("ibid"));
        command.arg("runs").env("IBID_DATA_DIR", home.data()).env("IBID_SOCKET", home.socket());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..8).map(|_| spawn()).collect();
    let started = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            usize::from(said.contains("started the daemon"))
        })
        .sum::<usize>();
    assert_eq!(started, 1);
    // Those that lost the race have given way; one that still waits for the store would take over after the stop.
    eventually("one daemon is left", Duration::from_secs(10), || (daemons_of(&home) == 1).then_some(()));
    home.ok(&["daemon", "stop"]);
    eventually("none is left", Duration::from_secs(10), || (daemons_of(&home) == 0).then_some(()));
}

/// How many processes were started on this home's data.
fn daemons_of(home: &Home) -> usize {
    let data = home.data().display().to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&data)
        })
        .count()
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused_and_the_first_left_alone() {
    let home = Home::new();
    let daemon = home.daemon();
    let second = Command::new(binaries().join("ibidd"))
        .args([
            "--data-dir",
            &home.data().display().to_string(),
            "--socket",
            &home.path().join("other").display().to_string(),
        ])
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use by another ibidd"), "{said}");
    assert_eq!(home.json(&["daemon", "status"])["pid"], daemon.pid());
}

#[test]
fn directory_and_socket_are_private() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.data()), 0o700);
    assert_eq!(mode(&home.socket()), 0o600);
}

#[test]
fn a_socket_left_by_a_killed_daemon_is_replaced() {
    let home = Home::new();
    home.daemon().kill();
    assert!(home.socket().exists());
    let _daemon = home.daemon();
    home.ok(&["runs"]);
}

#[test]
fn what_was_queued_or_running_goes_on_after_a_kill() {
    let home = Home::new();
    let daemon = home.daemon();
    home.register("work", MODULE);
    let runs: Vec<_> = (0..6).map(|n| home.ok(&["submit", "work/slow", &n.to_string()])).collect();
    let linked = home.ok(&["submit", "work/slow", "0"]);
    eventually("work has begun", Duration::from_secs(10), || (!home.marks().is_empty()).then_some(()));
    daemon.kill();
    let _daemon = home.daemon();
    for (n, run) in runs.iter().enumerate() {
        assert_eq!(home.ok(&["result", run]), n.to_string());
    }
    assert_eq!(home.ok(&["result", &linked]), "0");
}

#[test]
fn what_ran_without_retries_is_abandoned_by_a_kill_and_says_so() {
    let home = Home::new();
    let daemon = home.daemon();
    home.register("work", MODULE);
    let run = home.ok(&["submit", "work/once", "60"]);
    eventually("it runs", Duration::from_secs(10), || (!home.marks().is_empty()).then_some(()));
    daemon.kill();
    let _daemon = home.daemon();
    let shown = home.json(&["show", &run]);
    assert_eq!(shown["execution"]["state"], "abandoned");
    assert!(shown["execution"]["detail"].as_str().unwrap().contains("the daemon stopped while it ran"));
    assert_eq!(home.marks(), ["once 60"]);
}

#[test]
fn stopping_lets_running_work_end_and_keeps_what_is_queued() {
    let home = Home::new();
    let mut daemon = home.daemon();
    home.write("work.py", MODULE);
    home.ok(&["register", "work", "--concurrency", "1"]);
    let first = home.ok(&["submit", "work/once", "3"]);
    eventually("it runs", Duration::from_secs(10), || (!home.marks().is_empty()).then_some(()));
    let second = home.ok(&["submit", "work/once", "0"]);
    daemon.signal(Signal::TERM);
    eventually("it is stopping", Duration::from_secs(2), || {
        (home.json(&["daemon", "status"])["stopping"] == true).then_some(())
    });
    let refused = home.ibid(&["submit", "work/once", "0"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the daemon is stopping and takes no new starts"));
    assert!(daemon.wait().success());
    let _daemon = home.daemon();
    assert_eq!(home.ok(&["result", &first]), "3");
    assert_eq!(home.ok(&["result", &second]), "0");
    assert_eq!(home.marks(), ["once 3", "once 0"]);
}

#[test]
fn a_second_signal_does_not_wait_for_running_work() {
    let home = Home::new();
    let mut daemon = home.daemon();
    home.register("work", MODULE);
    let run = home.ok(&["submit", "work/once", "60"]);
    eventually("it runs", Duration::from_secs(10), || (!home.marks().is_empty()).then_some(()));
    daemon.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(100));
    daemon.signal(Signal::INT);
    assert!(daemon.wait().success());
    let _daemon = home.daemon();
    assert_eq!(home.json(&["show", &run])["execution"]["state"], "abandoned");
}

#[test]
fn workers_die_with_the_daemon_and_idle_ones_are_stopped() {
    let home = Home::new();
    let daemon = home.daemon_with(&["--worker-idle", "0.2"]);
    home.register("work", MODULE);
    home.ok(&["run", "work/once", "0"]);
    eventually("idle workers are stopped", Duration::from_secs(10), || {
        home.json(&["workers"]).as_array().unwrap().is_empty().then_some(())
    });
    assert_eq!(home.ok(&["run", "work/once", "0"]), "0");
    home.ok(&["submit", "work/once", "60"]);
    let pids: Vec<i64> = eventually("workers are there", Duration::from_secs(10), || {
        let workers = home.json(&["workers"]);
        let busy = workers.as_array().unwrap().iter().any(|worker| worker["state"] == "busy");
        let pids = workers.as_array().unwrap().iter().filter_map(|worker| worker["pid"].as_i64()).collect();
        busy.then_some(pids)
    });
    daemon.kill();
    eventually("they are gone", Duration::from_secs(10), || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
}

/// Whether a process runs: one that waits to be reaped does not.
fn is_alive(pid: i64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X"))
}

#[test]
fn a_waiting_command_finds_the_daemon_again() {
    let home = Home::new();
    let daemon = home.daemon();
    home.register("work", MODULE);
    let waiting = home.command(&["run", "work/slow", "7"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    eventually("it runs", Duration::from_secs(10), || (!home.marks().is_empty()).then_some(()));
    daemon.kill();
    let _daemon = home.daemon();
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "7");
}

#[test]
fn a_subscription_is_a_snapshot_and_then_changes() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("work", MODULE);
    let mut client = JsonClient::connect(&home.socket());
    let subscription = client.result("subscribe", &json!({"topic": {"runs": {}}}))["subscription"].clone();
    let first = client.line().unwrap();
    assert_eq!(first["params"]["snapshot"], true);
    assert_eq!(first["params"]["body"]["runs"], json!([]));
    home.ok(&["run", "work/once", "0"]);
    let state = eventually("the run's end is told", Duration::from_secs(10), || {
        let event = client.line()?;
        assert_eq!(event["params"]["subscription"], subscription);
        assert_eq!(event["params"]["snapshot"], false);
        event["params"]["body"]["runs"][0]["state"].as_str().filter(|state| *state == "succeeded").map(str::to_owned)
    });
    assert_eq!(state, "succeeded");
}
