//! What the commands print, and that scripts can rely on it.

use std::time::Duration;

use ibid_tests::{Home, JsonClient, binaries};
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

#[test]
fn every_list_filters_and_pages_in_the_same_way() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "lists",
        "from ibid import task, workflow\n\n@task()\ndef part():\n    return 1\n\n@workflow(delay=3600)\ndef later(x):\n    return x\n\n@workflow()\ndef now():\n    return part()\n",
    );
    for n in 1..=5 {
        home.ok(&["submit", "lists/later", &n.to_string()]);
    }
    home.ok(&["run", "lists/now"]);
    let keys = |command: &str, options: &[&str], member: &str| -> Vec<String> {
        let listed = home.json(&[&[command], options].concat());
        let listed = listed.get("runs").cloned().unwrap_or(listed);
        listed.as_array().unwrap().iter().map(|line| line[member].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys("targets", &["--limit", "2"], "target"), ["lists/later", "lists/now"]);
    assert_eq!(keys("targets", &["--cursor", "lists/now"], "target"), ["lists/part"]);
    assert_eq!(keys("targets", &["--state", "task"], "target"), ["lists/part"]);
    assert_eq!(keys("queue", &["--limit", "2", "--cursor", "R2:1.1"], "execution"), ["R3:1.1", "R4:1.1"]);
    assert_eq!(keys("queue", &["--target", "later", "--state", "queued", "--since", "1h"], "execution").len(), 5);
    assert_eq!(keys("runs", &["--limit", "2", "--cursor", "R5"], "id"), ["R4", "R3"]);
    assert_eq!(keys("runs", &["--state", "succeeded"], "id"), ["R6"]);
    assert!(keys("workers", &["--target", "nothing"], "repository").is_empty());
    home.ok(&["run", "lists/now", "--use-cache"]);
    assert_eq!(home.json(&["cache", "ls", "--target", "now"])["namespaces"].as_array().unwrap().len(), 1);
    assert_eq!(home.json(&["cache", "ls", "lists:now", "--state", "failed"])["keys"].as_array().unwrap().len(), 0);
    assert!(home.ok(&["queue", "--limit", "2"]).contains("ibid queue --cursor R2:1.1"));
    assert!(home.fails(2, &["targets", "--since", "1h"]).contains("--since"));
    assert!(home.fails(4, &["queue", "--cursor", "R9:1.1"]).contains("R9:1.1"));
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let home = Home::new();
    let _daemon = home.daemon();
    let kind = |code: i32, words: &[&str]| {
        let said = home.fails(code, words);
        let error: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{words:?}: {said}"));
        assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
        error["error"]["kind"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(2, &["run", "--json"]), "usage");
    assert_eq!(kind(2, &["nonsense", "--json"]), "usage");
    assert_eq!(kind(4, &["show", "R7", "--json"]), "not_found");
    assert_eq!(kind(125, &["--json", "exec", "-k", "a", "--", "true"]), "usage");
    assert!(home.fails(2, &["rnus"]).contains("runs"));
}

#[test]
fn the_doctor_finds_nothing_wrong_and_says_what_is() {
    let home = Home::new();
    let before = home.json(&["doctor"]);
    assert_eq!(before["healthy"], true, "{before}");
    let _daemon = home.daemon();
    let text = home.ok(&["doctor"]);
    assert!(text.contains("answers (pid") && !text.contains("BAD"), "{text}");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(home.data(), open).unwrap();
    let output = home.ibid(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("chmod 700"), "{text}");
}

#[test]
fn completions_come_from_the_daemon() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("lists", "from ibid import workflow\n\n@workflow()\ndef now():\n    return 1\n");
    home.ok(&["run", "lists/now"]);
    for (shell, mark) in [("bash", "complete -"), ("zsh", "#compdef ibid"), ("fish", "complete ")] {
        assert!(home.ok(&["completions", shell]).contains(mark), "{shell}");
    }
    let complete = |words: &[&str]| {
        let mut command = home.command(&[]);
        command.env("IBID_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        command.env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_COMP_TYPE", "9");
        let mut ask = std::process::Command::new(command.get_program());
        ask.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).arg("--").args(words);
        let output = ask.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(complete(&["ibid", "run", "li"]).contains("lists/now"));
    assert!(complete(&["ibid", "show", "R"]).contains("R1:1"));
    assert!(complete(&["ibid", "do"]).contains("doctor"));
}

#[test]
fn manual_pages_are_written_for_every_command() {
    let home = Home::new();
    let pages = home.path().join("man");
    home.ok(&["man", &pages.display().to_string()]);
    let page = std::fs::read_to_string(pages.join("ibid-exec.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("cache"));
    assert!(pages.join("ibid.1").exists() && pages.join("ibid-cache-prune.1").exists());
}

#[test]
fn the_service_is_written_and_removed_where_systemd_cannot_be_reached() {
    let home = Home::new();
    let units = home.path().join("config/systemd/user");
    let run = |words: &[&str]| {
        let mut command = home.command(words);
        command.env("PATH", "").env_remove("DBUS_SESSION_BUS_ADDRESS").output().unwrap()
    };
    for _ in 0..2 {
        let output = run(&["service", "install"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stdout).contains("systemd cannot be reached"));
    }
    let service = std::fs::read_to_string(units.join("ibidd.service")).unwrap();
    assert!(service.contains("Type=notify") && service.contains(&home.data().display().to_string()), "{service}");
    assert!(std::fs::read_to_string(units.join("ibidd.socket")).unwrap().contains("ListenStream="));
    assert_eq!(run(&["service", "uninstall"]).status.code(), Some(0));
    assert!(!units.exists());
    assert_eq!(run(&["service", "uninstall"]).status.code(), Some(0));
}

#[test]
fn dev_registers_again_when_a_file_changes_and_shows_what_runs_write() {
    let home = Home::new();
    let daemon = home.daemon();
    let write = |value: u32| {
        home.write(
            "news.py",
            &format!(
                "from ibid import workflow\n\n@workflow()\ndef go():\n    print('says', {value})\n    return {value}\n"
            ),
        );
    };
    write(1);
    let log = home.path().join("dev.log");
    let mut dev = home.command(&["dev", "news"]).stdout(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let eventually = |what: &str, text: &str| {
        ibid_tests::eventually(what, Duration::from_secs(20), || {
            std::fs::read_to_string(&log).ok()?.contains(text).then_some(())
        });
    };
    eventually("it is registered", "news/go");
    ibid_tests::eventually("the run is watched", Duration::from_secs(20), || {
        assert_eq!(home.ok(&["run", "news/go"]), "1");
        std::fs::read_to_string(&log).ok()?.contains("says 1").then_some(())
    });
    write(2);
    ibid_tests::eventually("the new code runs", Duration::from_secs(20), || {
        (home.ok(&["run", "news/go"]) == "2").then_some(())
    });
    eventually("its output is shown", "says 2");
    // What cannot be imported is told, and it goes on.
    home.write("news.py", "nonsense(\n");
    std::thread::sleep(Duration::from_millis(300));
    write(3);
    ibid_tests::eventually("the mended code runs", Duration::from_secs(20), || {
        (home.ok(&["run", "news/go"]) == "3").then_some(())
    });
    // It outlives the daemon.
    drop(daemon);
    let _daemon = home.daemon();
    write(4);
    ibid_tests::eventually("the newest code runs", Duration::from_secs(20), || {
        (home.ok(&["run", "news/go"]) == "4").then_some(())
    });
    eventually("its output is shown", "says 4");
    dev.kill().unwrap();
    dev.wait().unwrap();
}

#[test]
fn dev_registers_a_program_again_when_it_is_built_anew() {
    let home = Home::new();
    let _daemon = home.daemon();
    let build = |program: &str| {
        // As a linker does it: made elsewhere, and moved there as a whole.
        let copied =
            std::process::Command::new("cp").arg(binaries().join(program)).arg(home.path().join("new")).status();
        assert!(copied.unwrap().success());
        std::fs::rename(home.path().join("new"), home.path().join("built/tasks")).unwrap();
    };
    std::fs::create_dir(home.path().join("built")).unwrap();
    std::fs::create_dir(home.path().join("here")).unwrap();
    build("rust-tasks");
    let mut command = home.command(&["dev", "--dir", "here", "--bin", "built/tasks"]);
    let said = home.path().join("said");
    let mut dev =
        command.stdout(std::process::Stdio::null()).stderr(std::fs::File::create(&said).unwrap()).spawn().unwrap();
    let knows = |target: &str| {
        let all = home.ok(&["targets"]);
        all.contains(target).then_some(())
    };
    ibid_tests::eventually("it watches", Duration::from_secs(20), || {
        std::fs::read_to_string(&said).ok()?.contains("watching").then_some(())
    });
    assert_eq!(knows("tasks/add"), Some(()));
    build("examples/prices");
    ibid_tests::eventually("it is registered anew", Duration::from_secs(20), || knows("tasks/price"));
    dev.kill().unwrap();
    dev.wait().unwrap();
}
