//! What the commands print, and that scripts can rely on it.

use ibid_tests::{Home, JsonClient};
use serde_json::json;

const MODULE: &str = r#"
from ibid import task, workflow

@task(cache=True)
def part(n):
    """One part of it."""
    return n

@workflow()
def whole(n=2):
    """All of it."""
    return [part(1), part(1), part(n)]
"#;

#[test]
fn submit_prints_the_run_alone_and_result_its_value() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("parts", MODULE);
    assert_eq!(home.ok(&["submit", "parts/whole"]), "R1");
    assert_eq!(home.ok(&["result", "R1"]), "[1,1,2]");
    assert_eq!(home.ok(&["result", "1:2"]), "1");
    assert_eq!(home.ok(&["run", "parts/whole", "--arg", "n=-5"]), "[1,1,-5]");
    assert_eq!(home.ok(&["run", "parts/whole", "-5"]), "[1,1,-5]");
    assert_eq!(home.ok(&["run", "parts/whole", "text"]), r#"[1,1,"text"]"#);
}

#[test]
fn big_numbers_are_printed_exactly() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("big", "from ibid import workflow\n\n@workflow()\ndef go(n):\n    return n + 2**70\n");
    assert_eq!(home.ok(&["run", "big/go", "9007199254740993"]), "1180600627916666044417");
}

#[test]
fn the_same_idempotency_key_gives_the_same_run() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("parts", MODULE);
    let submit = |n: &str| home.ibid(&["submit", "parts/whole", n, "--idempotency-key", "monday"]);
    assert_eq!(String::from_utf8_lossy(&submit("1").stdout).trim(), "R1");
    assert_eq!(String::from_utf8_lossy(&submit("1").stdout).trim(), "R1");
    assert!(String::from_utf8_lossy(&submit("2").stderr).contains("belongs to R1"));
    assert_eq!(home.ok(&["submit", "parts/whole"]), "R2");
}

#[test]
fn lists_show_what_there_is_and_page() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("parts", MODULE);
    for _ in 0..5 {
        home.ok(&["run", "parts/whole"]);
    }
    let targets = home.ok(&["targets"]);
    assert!(
        targets.contains("parts/whole") && targets.contains("All of it.") && targets.contains("(n=2)"),
        "{targets}"
    );
    let page = home.json(&["runs", "--limit", "2"]);
    let ids = |page: &serde_json::Value| -> Vec<String> {
        page["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&page), ["R5", "R4"]);
    let next = home.json(&["runs", "--limit", "2", "--cursor", page["next"].as_str().unwrap()]);
    assert_eq!(ids(&next), ["R3", "R2"]);
    assert!(home.ok(&["runs", "--state", "failed"]).contains("no runs"));
    let stats = home.json(&["cache", "stats"]);
    assert_eq!(stats["total"]["executed"], 2);
    assert_eq!(stats["total"]["hits"], 13);
    let namespaces = home.json(&["cache", "ls"]);
    assert_eq!(namespaces["namespaces"][0]["namespace"], "parts:part");
    let keys = home.json(&["cache", "ls", "parts:part"]);
    let key = keys["keys"][0]["key"].as_str().unwrap().to_owned();
    let shown = home.json(&["cache", "show", &key[..8]]);
    assert_eq!(shown["key"], key);
    assert!(!shown["borrowers"].as_array().unwrap().is_empty());
    assert!(home.ok(&["queue"]).contains("nothing waits"));
    assert!(home.ok(&["workers"]).contains("executor"));
}

#[test]
fn both_encodings_show_the_same_records() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("parts", MODULE);
    home.ok(&["run", "parts/whole"]);
    let mut client = JsonClient::connect(&home.socket());
    for (method, params, arguments) in [
        ("show", json!({"id": "R1:3"}), &["show", "R1:3"][..]),
        ("runs", json!({}), &["runs"][..]),
        ("why", json!({"id": "R1:3"}), &["why", "R1:3"][..]),
        ("logs", json!({"id": "R1"}), &["logs", "R1"][..]),
        ("cache.stats", json!({}), &["cache", "stats"][..]),
    ] {
        let mut raw = client.result(method, &params);
        let mut shown = home.json(arguments);
        for value in [&mut raw, &mut shown] {
            if let Some(object) = value.as_object_mut() {
                object.remove("disk_bytes");
            }
        }
        assert_eq!(raw, shown, "{method}");
    }
    let reply = home.ok(&["rpc", "result", r#"{"id":"R1"}"#]);
    assert!(reply.contains(r#""value":[1,1,2]"#), "{reply}");
}

#[test]
fn why_finds_the_nearest_call_and_what_differs() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "near",
        "from ibid import task, workflow\n\n@task(cache=True)\ndef look(place, day, depth=1):\n    return place\n\n@workflow()\ndef go(place, day):\n    return look(place, day)\n",
    );
    home.ok(&["run", "near/go", "Oslo", "Monday"]);
    home.ok(&["run", "near/go", "Bergen", "Friday"]);
    home.ok(&["run", "near/go", "Oslo", "Friday"]);
    let why = home.json(&["why", "R3:2"]);
    let sentence = why["sentence"].as_str().unwrap();
    assert!(sentence.contains("argument place differs") || sentence.contains("argument day differs"), "{sentence}");
    assert!(why["would_hit"].as_str().unwrap().contains("would hit if"), "{why}");
}

#[test]
fn the_demo_prints_its_run_where_there_is_no_terminal() {
    let home = Home::new();
    let _daemon = home.daemon();
    let printed = home.ok(&["demo"]);
    assert!(printed.contains("✓ tour 12") && printed.contains("= fib 10"), "{printed}");
    assert!(printed.contains("1 ran, 6 hit"), "{printed}");
    let counts = home.json(&["show", "R1"])["run"]["counts"].clone();
    assert!(counts["joined"].as_u64().unwrap() > 0 && counts["cached"].as_u64().unwrap() > 0, "{counts}");
}

#[test]
fn run_tells_its_progress_as_lines_where_there_is_no_terminal() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("parts", MODULE);
    let output = home.ibid(&["run", "parts/whole"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("R1 started\n") && said.contains("R1 ended after"), "{said}");
    assert!(!said.contains('\u{1b}'));
}

#[test]
fn a_program_started_inside_an_execution_is_a_call_of_it() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write(
        "nested.py",
        "import os, subprocess\nfrom ibid import workflow\n\n@workflow()\ndef inner(n):\n    return n + 1\n\n@workflow()\ndef outer(program):\n    out = subprocess.run([program, '--no-start', 'run', 'nested/inner', '4'], capture_output=True, text=True)\n    return [out.returncode, out.stdout.strip()]\n",
    );
    home.ok(&["register", "nested", "--concurrency", "1"]);
    let program = ibid_tests::home::binaries().join("ibid").display().to_string();
    assert_eq!(home.ok(&["run", "nested/outer", &program]), r#"[0,"5"]"#);
    assert_eq!(home.json(&["show", "R1:2"])["step"]["caller"], "R1:1.1");
}

#[test]
fn a_run_is_exported_as_a_trace_a_graph_and_its_records() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.ok(&["demo"]);
    let records: serde_json::Value = serde_json::from_str(&home.ok(&["export", "R1"])).unwrap();
    let steps = records["steps"].as_array().unwrap();
    assert_eq!(steps.len() as u64, records["run"]["counts"]["steps"].as_u64().unwrap());
    let trace: serde_json::Value =
        serde_json::from_str(&home.ok(&["export", "R1", "--format", "chrome-trace"])).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let ran = events.iter().filter(|event| event["cat"] == "ran" || event["cat"] == "spawned").count() as u64;
    assert_eq!(ran, records["run"]["counts"]["ran"].as_u64().unwrap());
    // On one lane nothing overlaps.
    let mut lanes = std::collections::BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let (from, lasted) = (event["ts"].as_i64().unwrap(), event["dur"].as_i64().unwrap());
        assert!(from >= 0 && lasted >= 0, "{event}");
        let free = lanes.insert(event["tid"].as_u64().unwrap(), from + lasted).unwrap_or(0);
        assert!(free <= from, "{event}");
    }
    let graph = home.ok(&["export", "R1", "--format", "dot"]);
    assert!(graph.starts_with("digraph \"R1\" {") && graph.ends_with('}'), "{graph}");
    for step in steps {
        assert!(graph.contains(&format!("{} [label=", step["id"])), "{graph}");
    }
    assert!(graph.contains("\"R1:1\" -> \"R1:2\";") && graph.contains("style=dashed, color=purple"), "{graph}");
    home.fails(4, &["export", "R9"]);
}
