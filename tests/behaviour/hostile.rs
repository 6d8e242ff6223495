//! Clients and tasks that mean harm: floods, sequences that terminals obey, pickles, names that lead elsewhere.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ibid_tests::terminal::Terminal;
use ibid_tests::{Home, JsonClient, eventually};
use serde_json::json;

/// What a terminal would obey: its title changed, its screen cleared, in both forms of the introducer.
const MODULE: &str = r#"
from ibid import group, log_info, metric, progress, task, workflow

OBEYED = "\x1b]0;owned\x07\x1b[2J\x9b2J\x85\u202e"

class Wrong(Exception):
    pass

Wrong.__name__ = Wrong.__qualname__ = "Wrong" + OBEYED

@task(cache=True, cache_namespace="space" + OBEYED, cache_version=OBEYED, cache_key=lambda text: text + OBEYED)
def part(text):
    """Does things.""" + OBEYED
    print("printed", text)
    log_info("said {what}" + OBEYED, what=text)
    progress(OBEYED, 1, 2)
    metric("figure" + OBEYED, 1.5)
    return {text: text}

@task
def fails(text):
    raise Wrong("wrong " + text)

@workflow
def show(text=OBEYED):
    with group("group" + OBEYED):
        part(text)
    try:
        fails(text)
    except Exception:
        pass
    return text

@workflow
def plain(n=1):
    return n

part.__doc__ = OBEYED
"#;

/// What of it would be the harm.
const HARM: [char; 4] = ['\u{1b}', '\u{9b}', '\u{85}', '\u{202e}'];

#[test]
fn nothing_that_tasks_say_reaches_a_terminal_as_a_command() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("hostile", MODULE);
    home.ok(&["run", "hostile/show"]);
    home.ok(&["run", "hostile/show"]);
    let evil = "x\u{1b}]0;owned\u{7}";
    let commands: [&[&str]; 24] = [
        &["runs"],
        &["targets"],
        &["show", "R1"],
        &["show", "R1:2"],
        &["show", "R1:3"],
        &["why", "R1:2"],
        &["why", "R1:3"],
        &["why", "R2:2"],
        &["logs", "R1"],
        &["logs", "R1:2"],
        &["diff", "R1:2", "R2:2"],
        &["result", "R1:3"],
        &["cache", "ls"],
        &["cache", "stats"],
        &["queue"],
        &["workers"],
        &["env", "list"],
        &["doctor"],
        &["daemon", "status"],
        &["run", evil],
        &["show", evil],
        &["env", "create", evil],
        &["runs", "--state", evil],
        &["register", evil],
    ];
    for arguments in commands {
        let output = home.ibid(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.trim().is_empty() || arguments == ["queue"], "{arguments:?} says nothing");
        assert!(!said.contains(HARM), "{arguments:?}: {said:?}");
    }
    let keys = home.json(&["cache", "ls"]);
    let namespace = keys["namespaces"][0]["namespace"].as_str().unwrap_or_default().to_owned();
    assert!(namespace.contains("owned"), "{keys}");
    let said = home.ok(&["cache", "ls", &namespace]);
    assert!(!said.contains(HARM), "{said:?}");
    // All screens: tab goes round, enter goes in.
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[]);
    terminal.wait_for("R2");
    for keys in
        ["\r", "jj", "\r", "l", "q", "w", "q", "q", "q", "2", "\r", "q", "3", "\r", "q", "4", "\r", "q", "5", "6", "1"]
    {
        terminal.press(keys);
        std::thread::sleep(Duration::from_millis(150));
        assert!(!terminal.has_sent("\u{1b}]0;owned"), "after {keys:?}: {}", terminal.screen());
        assert!(!terminal.has_sent("\u{202e}") && !terminal.has_sent("\u{9b}"), "after {keys:?}");
    }
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_pickle_is_loaded_by_the_worker_that_is_given_it_and_by_nobody_else() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("hostile", MODULE);
    // What loading it does: makes a file.
    let mark = home.path().join("loaded");
    let pickle = format!("cos\nsystem\n(S'touch {}'\ntR.", mark.display());
    let mut encoded = String::new();
    for chunk in pickle.as_bytes().chunks(3) {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let number = chunk.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = char::from(DIGITS[number >> (18 - 6 * place) & 63]);
            encoded.push(if place > chunk.len() { '=' } else { digit });
        }
    }
    let value = json!({"$type": "python", "class": "m:C", "digest": "0".repeat(64), "repr": "C()", "pickle": encoded});
    let mut client = JsonClient::connect(&home.socket());
    // A worker that is no Python: it hands the value on.
    let worker = ibid_tests::worker::Worker::attach(&home.socket(), 4, 0).unwrap();
    let worker = std::thread::spawn(move || worker.work(|_| {}));
    let run = client.result("submit", &json!({"target": "bare/stow", "arguments": [value]}))["run"].clone();
    let run = run.as_str().unwrap();
    for arguments in
        [&["result", run][..], &["show", run], &["show", run, "--json"], &["why", run], &["runs"], &["export", run]]
    {
        home.ok(arguments);
    }
    let mut terminal = Terminal::open(&home, 80, 24, &[], &[]);
    terminal.wait_for(run);
    terminal.press("\r");
    terminal.wait_for("stow");
    assert!(!mark.exists(), "a pickle was loaded by somebody who only looked");
    client.result("submit", &json!({"target": "hostile/plain", "arguments": [value]}));
    eventually("the worker loads it", Duration::from_secs(10), || mark.exists().then_some(()));
    drop((terminal, _daemon));
    worker.join().unwrap();
}

#[test]
fn messages_that_never_end_are_borne_up_to_a_bound_and_nobody_else_notices() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("hostile", MODULE);
    let mut slow: Vec<_> = (0..300).map(|_| UnixStream::connect(home.socket()).unwrap()).collect();
    let beginning = br#"{"jsonrpc":"2.0","id":1,"method":"submit","params":{"target":"hostile/plain""#;
    for (n, byte) in beginning.iter().enumerate() {
        for stream in &mut slow {
            stream.write_all(&[*byte]).unwrap();
        }
        if n % 25 == 0 {
            assert_eq!(home.ok(&["run", "hostile/plain", &n.to_string()]), n.to_string());
        }
    }
    // Those who said it slowly are heard in the end.
    let mut last = slow.pop().unwrap();
    last.write_all(b",\"arguments\":[7]}}\n").unwrap();
    let mut answer = [0; 200];
    let read = last.read(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer[..read]).contains("\"run\""));
    // Many large ones at once: together they would fill the memory.
    let chunk = vec![b'x'; 1024 * 1024];
    let mut large = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let mut client = JsonClient::connect(&home.socket());
        client.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"");
        if !(0..15).all(|_| client.send_raw(&chunk)) {
            refused += 1;
            if let Some(answer) = client.line() {
                assert_eq!(answer["error"]["data"]["kind"], "too_large", "{answer}");
            }
        }
        large.push(client);
    }
    assert!(refused > 10, "{refused}");
    assert_eq!(home.ok(&["run", "hostile/plain", "8"]), "8");
    let memory = home.json(&["daemon", "status"])["memory_bytes"].as_u64().unwrap();
    assert!(memory < 450 * 1024 * 1024, "the daemon holds {memory} bytes");
    drop(large);
    eventually("their place is free again", Duration::from_secs(10), || {
        let mut client = JsonClient::connect(&home.socket());
        client.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"no\":\"");
        let all = (0..14).all(|_| client.send_raw(&chunk)) && client.send_raw(b"\"}}\n");
        (all && client.line().is_some_and(|answer| answer["error"]["data"]["kind"] != "too_large")).then_some(())
    });
}

#[test]
fn thirty_thousand_runs_submitted_at_once_are_all_taken_in_bounded_memory() {
    const RUNS: u64 = 30_000;
    let home = Home::new();
    let daemon = home.daemon();
    // Registered, but its worker stays away: all of them wait.
    drop(ibid_tests::worker::Worker::attach(&home.socket(), 4, 0).unwrap());
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    let before = memory();
    let mut stream = UnixStream::connect(home.socket()).unwrap();
    let mut said = stream.try_clone().unwrap();
    let saying = std::thread::spawn(move || {
        for n in 0..RUNS {
            let line = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{n},\"method\":\"submit\",\"params\":{{\"target\":\"bare/job\",\"arguments\":[{n}]}}}}\n"
            );
            said.write_all(line.as_bytes()).unwrap();
        }
        said.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    saying.join().unwrap();
    assert_eq!(answers.lines().filter(|line| line.contains("\"run\"")).count() as u64, RUNS);
    let each = (memory() - before) / RUNS;
    eprintln!("{each} bytes of memory for each of {RUNS} runs that wait");
    assert!(each < 6_000, "{each} bytes for each run that waits");
    let status = home.json(&["daemon", "status"]);
    assert_eq!(status["queued"].as_u64().unwrap_or_default(), RUNS, "{status}");
}

#[test]
fn names_in_messages_lead_nowhere_but_into_the_spool_directory() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut client = JsonClient::connect(&home.socket());
    let secret = home.path().join("secret");
    let text = format!("\"{}\"", "s".repeat(100_000));
    std::fs::write(&secret, &text).unwrap();
    let spool = home.data().join("spool");
    std::os::unix::fs::symlink(&secret, spool.join("value-link")).unwrap();
    std::fs::create_dir(spool.join("value-directory")).unwrap();
    let pipe = spool.join("value-pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let absolute = secret.display().to_string();
    for name in
        ["../../secret", &absolute, "value-/../../secret", "value-link", "value-directory", "value-pipe", "", "."]
    {
        assert_eq!(client.refused("blob.put", &json!({"name": name})), "bad_request", "{name}");
    }
    for hash in ["../../secret", "", "zz", &"0".repeat(63), "00/../../secret"] {
        assert_eq!(client.refused("blob.get", &json!({"hash": hash})), "bad_request", "{hash}");
    }
    assert_eq!(client.refused("blob.get", &json!({"hash": "0".repeat(64)})), "not_found");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), text);
}
