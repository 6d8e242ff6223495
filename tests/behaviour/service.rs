//! The daemon as a systemd user service: its units, the socket that is handed over, what it tells, and a
//! real user manager where one can be started.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ibid_tests::{Home, binaries, eventually};
use rustix::process::{Pid, Signal, kill_process};

const MODULE: &str = r#"
import os
import time
from ibid import task, workflow
from marks import mark

@workflow
def twice(n):
    mark(f"twice {n}")
    return 2 * n

@workflow
def slow(seconds):
    mark("slow begins")
    time.sleep(seconds)
    mark("slow ends")
    return "slept"

@workflow
def surroundings():
    return sorted(name for name in os.environ if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_")))
"#;

fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: there is no {program} here");
    }
    found
}

/// Every file below a directory, with its text.
fn below(directory: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            all.extend(below(&entry.path()));
        } else {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            all.push((entry.file_name().to_string_lossy().into_owned(), text));
        }
    }
    all.sort();
    all
}

#[test]
fn the_units_are_right_the_same_each_time_and_gone_without_a_trace() {
    let home = Home::new();
    let units = home.path().join("config/systemd/user");
    // No user manager is reached here: the units are there nevertheless, and it is said.
    let said = home.ibid(&["service", "install"]);
    let told = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(1), "{told}");
    assert!(told.contains("systemd cannot be reached") && told.contains("systemctl --user enable --now"), "{told}");
    let written = below(&units);
    assert_eq!(written.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ibidd.service", "ibidd.socket"]);
    let _again = home.ibid(&["service", "install"]);
    assert_eq!(below(&units), written);
    if has("systemd-analyze") {
        let runtime = home.path().join("runtime");
        std::fs::create_dir(&runtime).unwrap();
        std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700)).unwrap();
        let verified = Command::new("systemd-analyze")
            .args(["verify", "--user", "--man=no"])
            .args([units.join("ibidd.service"), units.join("ibidd.socket")])
            .env("XDG_RUNTIME_DIR", &runtime)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && !said.contains("ibidd"), "{said}");
    }
    home.ok(&["service", "uninstall"]);
    assert!(!units.exists(), "{:?}", below(&units));
    assert!(home.ok(&["service", "uninstall"]).contains("was not installed"));
}

/// Somebody else listens, and starts a daemon for the first who connects.
fn activate(home: &Home) -> Child {
    let activated = Command::new("systemd-socket-activate")
        .arg("-l")
        .arg(home.socket())
        .args(["-E", "MARKS", "-E", "XDG_CONFIG_HOME"])
        .arg(binaries().join("ibidd"))
        .arg("--data-dir")
        .arg(home.data())
        .arg("--socket")
        .arg(home.socket())
        .current_dir(home.path())
        .env("MARKS", home.path().join("marks"))
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it listens", Duration::from_secs(10), || home.socket().exists().then_some(()));
    activated
}

#[test]
fn a_socket_that_is_handed_over_is_served_and_stays() {
    if !has("systemd-socket-activate") {
        return;
    }
    let home = Home::new();
    let mut activated = activate(&home);
    // The first to connect waits until the daemon serves.
    home.register("work", MODULE);
    assert_eq!(home.ok(&["run", "work/twice", "21"]), "42");
    assert_eq!(home.ok(&["run", "work/surroundings"]), "[]");
    assert!(home.ok(&["daemon", "stop"]).contains("has stopped"));
    assert!(eventually("it ends", Duration::from_secs(10), || activated.try_wait().ok().flatten()).success());
    assert!(home.socket().exists(), "the socket belongs to whoever has handed it over");
}

#[test]
fn who_wakes_a_daemon_that_cannot_start_is_told_why() {
    if !has("systemd-socket-activate") {
        return;
    }
    let home = Home::new();
    std::fs::create_dir_all(home.path().join("config/ibid")).unwrap();
    home.write("config/ibid/config.toml", "processes = \"many\"\n");
    let mut activated = activate(&home);
    let output = home.ibid(&["runs"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the daemon cannot start") && said.contains("config.toml"), "{said}");
    let ended = eventually("it ends", Duration::from_secs(10), || activated.try_wait().ok().flatten());
    // Which the unit takes for: do not try again by yourself.
    assert_eq!(ended.code(), Some(78));
}

#[test]
fn it_tells_when_it_serves_that_it_lives_and_when_it_stops() {
    let home = Home::new();
    let told = UnixDatagram::bind(home.path().join("notify")).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut daemon = Command::new(binaries().join("ibidd"))
        .arg("--data-dir")
        .arg(home.data())
        .arg("--socket")
        .arg(home.socket())
        .env("NOTIFY_SOCKET", home.path().join("notify"))
        .env("WATCHDOG_USEC", "300000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let read = told.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    };
    let ready = next();
    assert!(ready.contains("READY=1") && ready.contains("STATUS=serving"), "{ready}");
    assert!(home.ok(&["runs", "--json"]).contains("[]"), "it said that it serves");
    for _ in 0..3 {
        assert_eq!(next().trim(), "WATCHDOG=1");
    }
    kill_process(Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap(), Signal::TERM).unwrap();
    let stopping = loop {
        let message = next();
        if message.trim() != "WATCHDOG=1" {
            break message;
        }
    };
    // It lets work end for as long as it is configured to, and asks systemd for that time.
    assert!(stopping.contains("STOPPING=1") && stopping.contains("EXTEND_TIMEOUT_USEC=90000000"), "{stopping}");
    assert!(eventually("it ends", Duration::from_secs(10), || daemon.try_wait().ok().flatten()).success());
}

/// What is done under a real user manager; each line that begins with `=` is looked at below.
const MANAGER: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
systemd --user >manager.log 2>&1 &
manager=$!
trap 'kill $manager; wait $manager || true' EXIT
for _ in $(seq 100); do [ -S "$XDG_RUNTIME_DIR/systemd/private" ] && break; sleep 0.1; done
property() { systemctl --user show --property "$1" --value ibidd.service; }
another() { for _ in $(seq 200); do now=$(property MainPID); [ "$now" != "$1" ] && [ "$now" != 0 ] && return; sleep 0.1; done; false; }

"$IBID" register work
"$IBID" service install >installed
grep -q 'stopped the daemon that ran by itself' installed && echo '= a daemon that ran by itself made room'
echo "= runs: $("$IBID" run work/twice 21)"
echo "= status: $(property StatusText), $("$IBID" service status | tail -1)"

before=$(property MainPID)
kill -9 "$before"
echo "= after a kill: $("$IBID" run work/twice 22)"
another "$before" && echo "= it was started again"

mkdir -p "$XDG_CONFIG_HOME/systemd/user/ibidd.service.d"
printf '[Service]\nWatchdogSec=2\n' >"$XDG_CONFIG_HOME/systemd/user/ibidd.service.d/own.conf"
systemctl --user daemon-reload
systemctl --user restart ibidd.service
before=$(property MainPID)
kill -STOP "$before"
another "$before" && echo "= the watchdog noticed"
rm -r "$XDG_CONFIG_HOME/systemd/user/ibidd.service.d"
echo "= after the watchdog: $("$IBID" run work/twice 23)"

run=$("$IBID" submit work/slow 2)
for _ in $(seq 100); do grep -q 'slow begins' marks && break; sleep 0.1; done
before=$(property MainPID)
cp -r "$(dirname "$IBID")" new 2>/dev/null || true
new/ibid service install >installed
grep -q 'new/ibidd' "$XDG_CONFIG_HOME/systemd/user/ibidd.service" && echo '= the units name the new program'
echo "= the work in between: $("$IBID" result "$run"), begun $(grep -c 'slow begins' marks) times"
echo "= now runs: $(readlink "/proc/$(property MainPID)/exe" | grep -o 'new/ibidd')"

"$IBID" daemon stop
echo "= after a stop: $("$IBID" run work/twice 24)"
"$IBID" daemon restart
echo "= after a restart: $("$IBID" run work/twice 25)"

"$IBID" service uninstall
find "$XDG_CONFIG_HOME/systemd" -name '*ibid*' | grep . || echo '= nothing is left'
systemctl --user list-unit-files 'ibidd*' | grep -q '^0 unit' && echo '= nothing is known'
[ -e "$IBID_SOCKET" ] || echo '= nobody listens'
"#;

#[test]
fn a_real_user_manager_starts_watches_replaces_and_forgets_it() {
    if !has("systemd") || !has("unshare") {
        return;
    }
    let may_mount = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/run"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: nothing can be mounted here, which a user manager of one's own needs");
        return;
    }
    let home = Home::new();
    home.write("work.py", MODULE);
    home.write("script", MANAGER);
    // Only the two programs, so that an upgrade has little to copy.
    std::fs::create_dir(home.path().join("old")).unwrap();
    for program in ["ibid", "ibidd"] {
        std::fs::copy(binaries().join(program), home.path().join("old").join(program)).unwrap();
    }
    let begun = Instant::now();
    let output = Command::new("timeout")
        .args(["-k", "5", "120", "unshare", "-m", "bash", "script"])
        .current_dir(home.path())
        .env("IBID", home.path().join("old/ibid"))
        .env("IBID_DATA_DIR", home.data())
        .env("IBID_SOCKET", home.socket())
        .env("MARKS", home.path().join("marks"))
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .env("XDG_RUNTIME_DIR", "/run/user/own")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told: Vec<_> = said.lines().filter(|line| line.starts_with('=')).collect();
    let expected = [
        "= a daemon that ran by itself made room",
        "= runs: 42",
        "= status: serving, service active",
        "= after a kill: 44",
        "= it was started again",
        "= the watchdog noticed",
        "= after the watchdog: 46",
        "= the units name the new program",
        "= the work in between: \"slept\", begun 1 times",
        "= now runs: new/ibidd",
        "= after a stop: 48",
        "= after a restart: 50",
        "= nothing is left",
        "= nothing is known",
        "= nobody listens",
    ];
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told, expected, "after {:?}: {said}\n{errors}", begun.elapsed());
}
