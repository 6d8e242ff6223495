//! What caching promises, section by section.

use std::time::Duration;

use ibid_tests::Home;

/// Starts a workflow and returns its run and result.
#[track_caller]
fn run(home: &Home, target: &str, arguments: &[&str]) -> (String, String) {
    let run = home.ok(&[&["submit", target], arguments].concat());
    let result = home.ok(&["result", &run]);
    (run, result)
}

fn marks(home: &Home, name: &str) -> usize {
    home.marks().iter().filter(|mark| mark.as_str() == name).count()
}

#[test]
fn a_call_with_the_same_arguments_is_not_executed_again() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "sums",
        r#"
from ibid import task, workflow
from marks import mark

@task(cache=True)
def plus(left, right=0):
    mark("plus")
    return left + right

@workflow()
def total(left, right):
    return [plus(left, right), plus(left, right=right), plus(right=right, left=left)]
"#,
    );
    assert_eq!(run(&home, "sums/total", &["1", "2"]).1, "[3,3,3]");
    let (second, result) = run(&home, "sums/total", &["1", "2"]);
    assert_eq!(result, "[3,3,3]");
    assert_eq!(marks(&home, "plus"), 1);
    assert_eq!(home.why(&format!("{second}:2")), "hit");
    run(&home, "sums/total", &["1", "3"]);
    assert_eq!(marks(&home, "plus"), 2);
    assert_eq!(home.why("R3:2"), "no_match");
}

#[test]
fn a_maximum_age_is_a_number_of_seconds_or_a_timedelta() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "feeds",
        r#"
import datetime as dt
from ibid import task, workflow
from marks import mark

@task(cache=dt.timedelta(milliseconds=700))
def newest(user):
    mark("newest")

@task(cache=0.7)
def oldest(user):
    mark("oldest")

@workflow()
def read(user):
    newest(user)
    oldest(user)
"#,
    );
    run(&home, "feeds/read", &["1"]);
    run(&home, "feeds/read", &["1"]);
    assert_eq!((marks(&home, "newest"), marks(&home, "oldest")), (1, 1));
    std::thread::sleep(Duration::from_millis(800));
    let (third, _) = run(&home, "feeds/read", &["1"]);
    assert_eq!((marks(&home, "newest"), marks(&home, "oldest")), (2, 2));
    assert_eq!(home.why(&format!("{third}:2")), "too_old");
    let would = home.json(&["why", &format!("{third}:2")])["would_hit"].as_str().unwrap().to_owned();
    assert!(would.contains("cache="), "{would}");
}

#[test]
fn raising_and_lowering_the_age_takes_effect_on_old_results() {
    let home = Home::new();
    let _daemon = home.daemon();
    let module = |age: &str| {
        format!(
            "from ibid import task, workflow\nfrom marks import mark\n\n@task(cache={age})\ndef look(n):\n    mark('look')\n    return n\n\n@workflow()\ndef site():\n    return look(1)\n"
        )
    };
    home.register("looks", &module("3600"));
    run(&home, "looks/site", &[]);
    std::thread::sleep(Duration::from_millis(150));
    home.register("looks", &module("0.05"));
    let (second, _) = run(&home, "looks/site", &[]);
    assert_eq!(home.why(&format!("{second}:2")), "too_old");
    std::thread::sleep(Duration::from_millis(150));
    home.register("looks", &module("3600"));
    let (third, _) = run(&home, "looks/site", &[]);
    assert_eq!(home.why(&format!("{third}:2")), "hit");
    assert_eq!(marks(&home, "look"), 2);
}

#[test]
fn a_date_as_argument_ends_the_reuse_with_the_day() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "press",
        r#"
import datetime as dt
from ibid import task, workflow
from marks import mark

@task(cache=True)
def headlines(day):
    mark("headlines")
    return day.isoformat()

@workflow()
def digest(day):
    return headlines(dt.date.fromisoformat(day))
"#,
    );
    assert_eq!(run(&home, "press/digest", &["2026-01-01"]).1, "\"2026-01-01\"");
    run(&home, "press/digest", &["2026-01-01"]);
    assert_eq!(marks(&home, "headlines"), 1);
    let (next_day, _) = run(&home, "press/digest", &["2026-01-02"]);
    assert_eq!(marks(&home, "headlines"), 2);
    let sentence = home.json(&["why", &format!("{next_day}:2")])["sentence"].as_str().unwrap().to_owned();
    assert!(sentence.contains("argument day differs"), "{sentence}");
}

const LINKS: &str = r#"
import time
from ibid import task, workflow
from marks import mark

@task(cache=True)
def slow(n):
    mark("slow")
    time.sleep(0.2)
    if n < 0:
        raise ValueError(f"no {n}")
    return n * 2

@workflow()
def twice(n):
    first, second = slow.submit(n), slow.submit(n)
    outcomes = []
    for execution in (first, second):
        try:
            outcomes.append(execution.result())
        except ValueError as error:
            outcomes.append(str(error))
    return outcomes
"#;

#[test]
fn calls_made_before_the_first_has_ended_are_linked_to_it() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("links", LINKS);
    let (run_id, result) = run(&home, "links/twice", &["4"]);
    assert_eq!(result, "[8,8]");
    assert_eq!(marks(&home, "slow"), 1);
    assert_eq!(home.why(&format!("{run_id}:3")), "linked");
    let step = home.json(&["show", &format!("{run_id}:3")]);
    let states: Vec<_> =
        step["execution"]["transitions"].as_array().unwrap().iter().map(|t| t["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["linked", "cached"]);
    assert_eq!(step["execution"]["source"], format!("{run_id}:2.1"));
}

#[test]
fn if_the_first_fails_the_linked_ones_fail_with_it() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("links", LINKS);
    let (run_id, result) = run(&home, "links/twice", &["-4"]);
    assert_eq!(result, "[\"no -4\",\"no -4\"]");
    assert_eq!(marks(&home, "slow"), 1);
    let shown = home.json(&["show", &format!("{run_id}:3")]);
    assert_eq!(shown["execution"]["state"], "failed");
    assert_eq!(shown["execution"]["leader"], format!("{run_id}:2.1"));
    let (again, _) = run(&home, "links/twice", &["-4"]);
    assert_eq!(marks(&home, "slow"), 2);
    assert_eq!(home.why(&format!("{again}:2")), "last_failed");
}

#[test]
fn an_own_key_ignores_the_arguments_that_it_leaves_out() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "shop",
        r#"
from ibid import task, workflow
from marks import mark

@task(cache=True, cache_key=lambda article, _address: str(article))
def article(article, address):
    mark("article")
    return address

@workflow()
def look(number, address):
    return article(number, address)
"#,
    );
    assert_eq!(run(&home, "shop/look", &["7", "a.example"]).1, "\"a.example\"");
    assert_eq!(run(&home, "shop/look", &["7", "b.example"]).1, "\"a.example\"");
    assert_eq!(run(&home, "shop/look", &["8", "b.example"]).1, "\"b.example\"");
    assert_eq!(marks(&home, "article"), 2);
}

#[test]
fn a_renamed_task_keeps_its_results_by_its_namespace() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "before",
        "from ibid import task, workflow\nfrom marks import mark\n\n@task(cache=True)\ndef old():\n    mark('ran')\n    return 5\n\n@workflow()\ndef go():\n    return old()\n",
    );
    home.register(
        "after",
        "from ibid import task, workflow\nfrom marks import mark\n\n@task(cache=True, cache_namespace='before:old')\ndef new():\n    mark('ran')\n    return 6\n\n@workflow()\ndef go():\n    return new()\n",
    );
    assert_eq!(run(&home, "before/go", &[]).1, "5");
    assert_eq!(run(&home, "after/go", &[]).1, "5");
    assert_eq!(marks(&home, "ran"), 1);
}

#[test]
fn two_tasks_can_share_a_namespace() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "pair",
        r#"
from ibid import task, workflow

@task(cache=True, cache_namespace="both")
def left(a):
    return f"left {a}"

@task(cache=True, cache_namespace="both")
def right(b):
    return f"right {b}"

@workflow()
def go():
    return [left(1), right(1), right(2), left(2)]
"#,
    );
    assert_eq!(run(&home, "pair/go", &[]).1, r#"["left 1","left 1","right 2","right 2"]"#);
}

#[test]
fn a_workflow_is_remembered_when_it_is_called_but_not_when_it_is_started_by_hand() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "family",
        r#"
from ibid import task, workflow
from marks import mark

@workflow(cache=True)
def child():
    mark("child")
    return 1

@workflow()
def parent():
    return child() + child()
"#,
    );
    run(&home, "family/child", &[]);
    run(&home, "family/child", &[]);
    assert_eq!(marks(&home, "child"), 2);
    assert_eq!(home.why("R2"), "by_hand");
    assert_eq!(run(&home, "family/parent", &[]).1, "2");
    assert_eq!(run(&home, "family/parent", &[]).1, "2");
    assert_eq!(marks(&home, "child"), 3);
    let spawned = home.json(&["show", "R3:2"]);
    assert_eq!(spawned["execution"]["state"], "spawned");
    assert_eq!(spawned["execution"]["run"], "R4");
    assert_eq!(home.why("R5:2"), "hit");
    assert_eq!(home.json(&["show", "R5:2"])["execution"]["source"], "R4:1.1");
}

#[test]
fn a_start_by_hand_can_opt_in() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "alone",
        "from ibid import workflow\nfrom marks import mark\n\n@workflow(cache=True)\ndef go(n=1):\n    mark('go')\n    return n\n\n@workflow(cache=True, cache_key=lambda n: str(n))\ndef keyed(n):\n    return n\n",
    );
    home.ok(&["run", "alone/go", "--use-cache"]);
    assert_eq!(home.ok(&["run", "alone/go", "1", "--use-cache=10m"]), "1");
    assert_eq!(marks(&home, "go"), 1);
    assert_eq!(home.why("R2"), "hit");
    home.ok(&["run", "alone/go"]);
    assert_eq!(marks(&home, "go"), 2);
    assert!(home.fails(2, &["run", "alone/keyed", "1", "--use-cache"]).contains("--cache-key"));
    home.ok(&["run", "alone/keyed", "1", "--use-cache", "--cache-key", "1"]);
}

#[test]
fn a_re_run_ignores_the_cache_and_is_what_later_calls_get() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "clock",
        r#"
import os
from ibid import task, workflow
from marks import mark

@task(cache=True)
def read():
    mark("read")
    with open(os.environ["MARKS"]) as file:
        return len(file.readlines())

@workflow()
def go():
    return read()
"#,
    );
    assert_eq!(run(&home, "clock/go", &[]).1, "1");
    assert_eq!(run(&home, "clock/go", &[]).1, "1");
    assert_eq!(home.ok(&["rerun", "R2:2", "--wait"]), "R2:2.2");
    assert_eq!(home.why("R2:2.2"), "forced");
    assert_eq!(home.ok(&["result", "R2:2"]), "2");
    assert_eq!(home.ok(&["result", "R1:2"]), "1");
    let (third, result) = run(&home, "clock/go", &[]);
    assert_eq!(result, "2");
    assert_eq!(home.json(&["show", &format!("{third}:2")])["execution"]["source"], "R2:2.2");
    assert_eq!(home.ok(&["result", "R2"]), "1");
}

/// Each of the five conditions, broken alone, gives an execution and a reason of its own.
#[test]
fn each_condition_of_a_hit_has_a_reason_of_its_own() {
    let home = Home::new();
    let _daemon = home.daemon();
    let module = |options: &str| {
        format!(
            "import os\nfrom ibid import task, workflow\n\n@task({options})\ndef look(n):\n    if os.path.exists('broken'):\n        raise OSError('broken')\n    return n\n\n@workflow()\ndef go(n=1):\n    return look(n)\n"
        )
    };
    // 4: it failed.
    home.write("broken", "");
    home.register("five", &module("cache=True"));
    home.fails(1, &["run", "five/go"]);
    std::fs::remove_file(home.path().join("broken")).unwrap();
    let (run_id, _) = run(&home, "five/go", &[]);
    assert_eq!(home.why(&format!("{run_id}:2")), "last_failed");
    // 1: another environment of the project.
    home.ok(&["register", "five", "-e", "test"]);
    let run_id = home.ok(&["submit", "five/go", "-e", "test"]);
    home.ok(&["result", &run_id]);
    assert_eq!(home.why(&format!("{run_id}:2")), "other_environment");
    // 1: another project.
    home.ok(&["register", "five", "-p", "another"]);
    let run_id = home.ok(&["-p", "another", "submit", "five/go"]);
    home.ok(&["result", &run_id]);
    assert_eq!(home.why(&format!("{run_id}:2")), "no_match");
    // 2: caching off.
    home.register("five", &module("cache=False"));
    let (run_id, _) = run(&home, "five/go", &[]);
    assert_eq!(home.why(&format!("{run_id}:2")), "off");
    // 3: another key, another version.
    home.register("five", &module("cache=True"));
    let (run_id, _) = run(&home, "five/go", &["2"]);
    assert_eq!(home.why(&format!("{run_id}:2")), "no_match");
    home.register("five", &module("cache=True, cache_version='2'"));
    let (run_id, _) = run(&home, "five/go", &["2"]);
    assert_eq!(home.why(&format!("{run_id}:2")), "other_version");
    // 5: too old.
    std::thread::sleep(Duration::from_millis(60));
    home.register("five", &module("cache=0.05, cache_version='2'"));
    let (run_id, _) = run(&home, "five/go", &["2"]);
    assert_eq!(home.why(&format!("{run_id}:2")), "too_old");
    // None broken.
    home.register("five", &module("cache=True, cache_version='2'"));
    let (run_id, _) = run(&home, "five/go", &["2"]);
    assert_eq!(home.why(&format!("{run_id}:2")), "hit");
}

#[test]
fn a_hit_on_changed_code_says_that_it_has_changed() {
    let home = Home::new();
    let _daemon = home.daemon();
    let module = |value: u32| {
        format!(
            "from ibid import task, workflow\n\n@task(cache=True)\ndef look():\n    return {value}\n\n@workflow()\ndef go():\n    return look()\n"
        )
    };
    home.register("code", &module(1));
    run(&home, "code/go", &[]);
    home.register("code", &module(2));
    let (second, result) = run(&home, "code/go", &[]);
    assert_eq!(result, "1");
    let sentence = home.json(&["why", &format!("{second}:2")])["sentence"].as_str().unwrap().to_owned();
    assert!(sentence.contains("the code of code/look has changed since"), "{sentence}");
}

#[test]
fn explaining_a_start_says_what_would_happen_and_starts_nothing() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("links", LINKS);
    run(&home, "links/twice", &["4"]);
    let explained = home.json(&["run", "links/twice", "4", "--explain"]);
    assert_eq!(explained["like"], "R1");
    let kinds: Vec<_> =
        explained["calls"].as_array().unwrap().iter().map(|call| call["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["by_hand", "hit", "hit"]);
    assert_eq!(home.json(&["runs"])["runs"].as_array().unwrap().len(), 1);
}
