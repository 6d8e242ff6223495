//! Nonsense of every kind gets a clear answer, and everyone else is served.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ibid_tests::{Home, JsonClient};
use serde_json::json;

const MODULE: &str = "from ibid import workflow\n\n@workflow()\ndef go(n=1):\n    return n\n";

#[test]
fn wrong_requests_are_refused_by_kind_and_the_connection_goes_on() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fine", MODULE);
    let mut client = JsonClient::connect(&home.socket());
    assert_eq!(client.refused("nonsense", &json!({})), "unknown_method");
    assert_eq!(client.refused("submit", &json!({"target": 7})), "bad_request");
    assert_eq!(client.refused("submit", &json!({})), "bad_request");
    assert_eq!(client.refused("submit", &json!({"target": "fine/og"})), "unknown_target");
    assert_eq!(client.refused("submit", &json!({"target": "fine/go", "arguments": [1, 2]})), "bad_request");
    assert_eq!(client.refused("submit", &json!({"target": "fine/go", "scope": {"environment": "no"}})), "not_found");
    assert_eq!(client.refused("show", &json!({"id": "R99"})), "not_found");
    assert_eq!(client.refused("show", &json!({"id": "nonsense"})), "bad_request");
    assert_eq!(client.refused("rerun", &json!({"id": "R1:2.3"})), "not_found");
    assert_eq!(client.refused("execution.complete", &json!({"execution": "R1:1.1", "result": 1})), "not_running");
    assert_eq!(client.refused("worker.attach", &json!({"token": "x"})), "unknown_worker");
    let huge =
        br#"{"jsonrpc":"2.0","id":7,"method":"submit","params":{"target":"fine/go","arguments":[{"a":[1e400]}]}}"#;
    assert!(client.send_raw(&[huge.as_slice(), b"\n"].concat()));
    let answer = client.line().unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("too large for a float"), "{answer}");
    assert!(client.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\n"));
    assert_eq!(client.line().unwrap()["error"]["code"], -32700);
    assert!(client.send_raw(b"{\"id\":5}\n"));
    assert_eq!(client.line().unwrap()["error"]["code"], -32600);
    assert!(client.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":\xff}\n"));
    assert_eq!(client.line().unwrap()["error"]["data"]["kind"], "parse_error");
    client.result("ping", &json!({}));
}

#[test]
fn commands_say_what_is_wrong_with_the_right_exit_code() {
    let home = Home::new();
    assert!(home.fails(3, &["runs"]).contains("no daemon answers"));
    let _daemon = home.daemon();
    home.register("fine", MODULE);
    assert!(home.fails(4, &["run", "fine/goo"]).contains("did you mean 'fine/go'?"));
    assert!(home.fails(4, &["run", "go"]).contains("did you mean 'fine/go'?"));
    assert!(home.fails(4, &["show", "R7"]).contains("nothing has run yet"));
    assert!(home.fails(2, &["show", "seven"]).contains("is not an id"));
    assert!(home.fails(4, &["submit", "fine/go", "-e", "nowhere"]).contains("default/default"));
    assert!(home.fails(2, &["run", "fine/go", "1", "2"]).contains("too many"));
    assert!(home.fails(2, &["run", "fine/go", "--arg", "m=2"]).contains("no parameter 'm'"));
    assert!(home.fails(2, &["run", "fine/go", "--use-cache=soon"]).contains("is no age"));
    assert!(home.fails(2, &["runs", "--state", "asleep"]).contains("is no state"));
    assert!(home.fails(2, &["rpc", "ping", "{"]).contains("no JSON"));
    assert_eq!(home.ibid(&["nonsense"]).status.code(), Some(2));
    let json = home.fails(4, &["show", "R7", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["error"]["kind"], "not_found");
}

#[test]
fn a_module_that_cannot_be_imported_is_refused_with_its_traceback_and_the_old_one_stays() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fine", MODULE);
    home.write("fine.py", "from ibid import workflow\n\nraise RuntimeError('not today')\n");
    let said = home.fails(1, &["register", "fine"]);
    assert!(said.contains("RuntimeError: not today") && said.contains("fine.py"), "{said}");
    home.write("broken.py", "def (:\n");
    assert!(home.fails(1, &["register", "broken"]).contains("SyntaxError"));
    assert!(home.fails(1, &["register", "absent"]).contains("No module named 'absent'"));
    home.write("empty.py", "x = 1\n");
    assert!(home.fails(1, &["register", "empty"]).contains("declares no targets"));
    home.write("leaves.py", "import os\nos._exit(4)\n");
    assert!(home.fails(1, &["register", "leaves"]).contains("exited with code 4"));
    assert!(home.fails(2, &["register", "fine", "--python", "/nowhere/python"]).contains("no interpreter"));
    home.write("fine.py", MODULE);
    assert_eq!(home.ok(&["run", "fine/go", "3"]), "3");
}

#[test]
fn a_line_of_a_hundred_mebibytes_is_refused_and_nobody_else_notices() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fine", MODULE);
    let mut flooding = JsonClient::connect(&home.socket());
    let chunk = vec![b'x'; 1024 * 1024];
    flooding.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"submit\",\"params\":\"");
    let mut sent = 0;
    while sent < 100 && flooding.send_raw(&chunk) {
        sent += 1;
        if sent == 8 {
            assert_eq!(home.ok(&["run", "fine/go", "2"]), "2");
        }
    }
    assert!(sent < 100, "all of it was taken");
    if let Some(answer) = flooding.line() {
        assert_eq!(answer["error"]["data"]["kind"], "too_large");
    }
    assert_eq!(home.ok(&["run", "fine/go", "3"]), "3");
    let memory = home.json(&["daemon", "status"])["memory_bytes"].as_u64().unwrap();
    assert!(memory < 200 * 1024 * 1024, "the daemon holds {memory} bytes");
}

#[test]
fn frames_that_make_no_sense_end_only_their_own_connection() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fine", MODULE);
    let bytes: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"ibid",
        b"ibid\xff\xff",
        b"ibid\x00\x01\xff\xff\xff\xff",
        b"ibid\x00\x01\x00\x00\x00\x04\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
    ];
    let mut open = Vec::new();
    for bytes in bytes {
        let mut stream = UnixStream::connect(home.socket()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut answer = Vec::new();
        // Some are closed, one waits for more; none does harm.
        let _either = stream.read_to_end(&mut answer);
        open.push(stream);
    }
    assert_eq!(home.ok(&["run", "fine/go", "4"]), "4");
}

#[test]
fn a_client_that_stops_reading_does_not_hold_up_the_others() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fine", MODULE);
    let mut deaf = JsonClient::connect(&home.socket());
    deaf.send_raw(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"subscribe\",\"params\":{\"topic\":{\"runs\":{}}}}\n");
    let request = b"{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"targets\"}\n".repeat(1000);
    let mut stream = UnixStream::connect(home.socket()).unwrap();
    stream.set_nonblocking(true).unwrap();
    // Asks far more than it will ever read.
    for _ in 0..2000 {
        if stream.write_all(&request).is_err() {
            break;
        }
    }
    let begun = Instant::now();
    for n in 0..20 {
        assert_eq!(home.ok(&["run", "fine/go", &n.to_string()]), n.to_string());
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    let memory = home.json(&["daemon", "status"])["memory_bytes"].as_u64().unwrap();
    assert!(memory < 200 * 1024 * 1024, "the daemon holds {memory} bytes");
}

#[test]
fn a_thousand_silent_connections_are_borne() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fine", MODULE);
    let silent: Vec<_> = (0..1000).map_while(|_| UnixStream::connect(home.socket()).ok()).collect();
    assert!(silent.len() > 500);
    assert_eq!(home.ok(&["run", "fine/go", "5"]), "5");
}

#[test]
fn long_names_and_keys_do_no_harm() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fine", MODULE);
    let long = "k".repeat(100_000);
    let mut client = JsonClient::connect(&home.socket());
    let submit = json!({"target": "fine/go", "idempotency_key": long, "token": long});
    let first = client.result("submit", &submit);
    assert_eq!(client.result("submit", &submit)["run"], first["run"]);
    let other = json!({"target": "fine/go", "arguments": [2], "idempotency_key": long});
    assert_eq!(client.refused("submit", &other), "conflict");
}

#[test]
fn what_a_terminal_would_obey_is_not_printed() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fine", MODULE);
    home.ok(&["run", "fine/go", "\"\\u001b]0;owned\\u0007 \\u001b[2J\""]);
    for arguments in [&["show", "R1"][..], &["show", "R1:1"], &["why", "R1"], &["runs"], &["queue"]] {
        assert!(!home.ok(arguments).contains('\u{1b}'), "{arguments:?}");
    }
}
