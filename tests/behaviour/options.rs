//! What a target can ask for: memo, defer, wait, groups, progress, settings of a single call.

use std::time::Duration;

use ibid_tests::{Home, eventually};
use serde_json::Value;

/// A step's state, why kind and detail.
fn stands(home: &Home, id: &str) -> (String, String) {
    let shown = home.json(&["show", id]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&shown["execution"]["state"]), text(&shown["execution"]["detail"]))
}

fn steps(home: &Home, run: &str) -> Vec<Value> {
    home.json(&["rpc", "steps", &format!(r#"{{"run":"{run}"}}"#)])["result"]["steps"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

const MEMO: &str = r#"
import time
from ibid import task, workflow
from marks import mark

@task(memo=True)
def plain(x, y=0):
    mark("plain")
    return x + y

@task(memo=lambda x, _note: str(x))
def keyed(x, note):
    mark("keyed")
    return note

@task()
def silent(x):
    mark("silent")
    return x

@task(memo=False)
def refusing(x):
    mark("refusing")
    return x

@task(memo=True)
def fails_once():
    mark("fails_once")
    raise ValueError("no")

@task()
def asks(x):
    return plain(x)

@workflow()
def inside():
    first, second = plain.submit(1), plain.submit(1, y=0)
    assert first.id == second.id, (first.id, second.id)
    assert plain(1) == 1 and plain(2) == 2
    assert keyed(1, "a") == "a" and keyed(1, "b") == "a" and keyed(2, "c") == "c"
    return [silent(1), silent(1), asks(1)]

@workflow(memo=True)
def by_default():
    return [silent(1), silent(1), refusing(1), refusing(1), silent.with_memo(False)(1)]

@workflow()
def failing():
    kinds = []
    for _ in range(2):
        try:
            fails_once()
        except ValueError as error:
            kinds.append(type(error).__name__)
    return kinds
"#;

fn marks(home: &Home, name: &str) -> usize {
    home.marks().iter().filter(|mark| mark.as_str() == name).count()
}

#[test]
fn within_a_run_a_memoised_call_refers_to_the_step_of_the_first() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("memos", MEMO);
    assert_eq!(home.ok(&["run", "memos/inside"]), "[1,1,1]");
    assert_eq!((marks(&home, "plain"), marks(&home, "keyed"), marks(&home, "silent")), (2, 2, 2));
    let counts = home.json(&["show", "R1"])["run"]["counts"].clone();
    assert_eq!(counts["memo"].as_u64(), Some(4), "{counts}");
    let first = home.json(&["show", "R1:2"])["step"].clone();
    assert_eq!(first["memo_hits"].as_u64(), Some(3), "{first}");
    assert!(home.ok(&["show", "R1:2"]).contains("answered 3 later calls"), "{}", home.ok(&["show", "R1:2"]));
    assert!(home.ok(&["why", "R1:2"]).contains("answered 3 later calls"), "{}", home.ok(&["why", "R1:2"]));
    // Another run makes its own.
    home.ok(&["run", "memos/inside"]);
    assert_eq!(marks(&home, "plain"), 4);
}

#[test]
fn a_workflow_makes_memo_the_default_of_its_run_and_a_task_can_refuse_it() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("memos", MEMO);
    home.ok(&["run", "memos/by_default"]);
    assert_eq!((marks(&home, "silent"), marks(&home, "refusing")), (2, 2));
}

#[test]
fn a_failed_call_is_no_memo() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("memos", MEMO);
    assert_eq!(home.ok(&["run", "memos/failing"]), r#"["ValueError","ValueError"]"#);
    assert_eq!(marks(&home, "fails_once"), 2);
}

const DEFER: &str = r#"
import time
from ibid import task, workflow, log_info
from marks import mark

@task(defer=True, delay=0.3)
def index(version):
    mark(f"index {version}")
    return version

@task(defer=lambda user, _n: user, delay=0.2)
def notify(user, n):
    mark(f"notify {user} {n}")
    return [user, n]

@task(defer=True, delay=0.4, defer_max_wait=0.7)
def limited(n):
    mark(f"limited {n}")
    return n

@task(defer=True, delay=0.2, cache=True)
def remembered(n):
    mark(f"remembered {n}")
    return n

@workflow(defer=True, delay=0.3)
def rebuild(version):
    mark(f"rebuild {version}")
    return version

@workflow()
def burst():
    calls = [index.submit(n) for n in range(20)]
    return [call.result() for call in calls]

@workflow()
def users():
    calls = [notify.submit(user, n) for n in range(3) for user in ("ada", "bob")]
    return [call.result() for call in calls]

@workflow()
def steady():
    calls = []
    for n in range(10):
        calls.append(limited.submit(n))
        time.sleep(0.12)
    return sorted({call.result() for call in calls})

@workflow()
def again():
    return [remembered(1), remembered(1), [r.result() for r in [remembered.submit(2), remembered.submit(1)]]]

@workflow()
def builds():
    calls = [rebuild.submit(n) for n in range(3)]
    return [call.result() for call in calls]

@workflow()
def mixed():
    """Waits for the older call from within what the newer one calls: nobody may wait for itself."""
    return index(7)
"#;

#[test]
fn a_burst_of_deferred_calls_executes_once_with_the_last_arguments() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("bursts", DEFER);
    let expected: Vec<_> = std::iter::repeat_n("19", 20).collect();
    assert_eq!(home.ok(&["run", "bursts/burst"]), format!("[{}]", expected.join(",")));
    assert_eq!(home.marks(), ["index 19"]);
    let (state, detail) = stands(&home, "R1:2");
    assert_eq!(state, "deferred");
    assert!(detail.contains("replaced by R1:21.1, which succeeded"), "{detail}");
    let why = home.ok(&["why", "R1:2"]);
    assert!(why.contains("R1:21.1, a newer call"), "{why}");
    assert!(home.ok(&["show", "R1"]).contains("↷ R1:21.1"), "{}", home.ok(&["show", "R1"]));
}

#[test]
fn a_defer_function_tells_bursts_apart() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("bursts", DEFER);
    let result = home.ok(&["run", "bursts/users"]);
    assert_eq!(result, r#"[["ada",2],["bob",2],["ada",2],["bob",2],["ada",2],["bob",2]]"#);
    let mut marks = home.marks();
    marks.sort();
    assert_eq!(marks, ["notify ada 2", "notify bob 2"]);
}

#[test]
fn a_burst_is_put_off_no_longer_than_its_limit() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("bursts", DEFER);
    // 1.2 s of calls every 120 ms with a delay of 400 ms: without the limit only the last would run.
    let ran = home.ok(&["run", "bursts/steady"]);
    assert!(home.marks().len() >= 2, "{ran} {:?}", home.marks());
    assert!(ran.ends_with(",9]"), "{ran}");
}

#[test]
fn a_deferred_call_is_looked_up_when_it_is_due() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("bursts", DEFER);
    assert_eq!(home.ok(&["run", "bursts/again"]), "[1,1,[1,1]]");
    assert_eq!(home.marks(), ["remembered 1"]);
    assert_eq!(home.why("R1:3"), "hit");
    assert_eq!(stands(&home, "R1:4").0, "deferred");
    assert_eq!(home.why("R1:5"), "hit");
}

#[test]
fn starts_by_hand_and_called_workflows_are_deferred_too() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("bursts", DEFER);
    let runs: Vec<String> = (0..3).map(|n| home.ok(&["submit", "bursts/rebuild", &n.to_string()])).collect();
    for run in &runs {
        assert_eq!(home.ok(&["result", run]), "2");
    }
    assert_eq!(home.marks(), ["rebuild 2"]);
    assert_eq!(stands(&home, &runs[0]).0, "deferred");
    assert_eq!(home.ok(&["run", "bursts/builds"]), "[2,2,2]");
    assert_eq!(home.marks(), ["rebuild 2", "rebuild 2"]);
}

#[test]
fn deferred_calls_and_delays_survive_a_kill() {
    let home = Home::new();
    let daemon = home.daemon();
    home.register("bursts", DEFER);
    let runs: Vec<String> = (0..3).map(|n| home.ok(&["submit", "bursts/rebuild", &n.to_string()])).collect();
    daemon.kill();
    let _daemon = home.daemon();
    for run in &runs {
        assert_eq!(home.ok(&["result", run]), "2");
    }
    assert_eq!(home.marks(), ["rebuild 2"]);
}

const WAITS: &str = r#"
import time
from ibid import Execution, task, workflow
from marks import mark

@task()
def slow(n, fail=False):
    time.sleep(0.3)
    mark(f"slow {n}")
    if fail:
        raise ValueError("slow failed")
    return n

@task(wait=True)
def after(values):
    mark("after")
    return [value.result() if isinstance(value, Execution) else value for value in values]

@task(wait="first")
def after_first(first, second):
    mark("after_first")
    return first.result()

@task(wait=True)
def whatever(call):
    mark("whatever")
    return "ended"

@workflow()
def all():
    return after([slow.submit(1), slow.submit(2), 3])

@workflow()
def one():
    quick, late = slow.submit(1), slow.with_delay(1.5).submit(2)
    done = after_first.submit(quick, late)
    return done.result()

@workflow()
def bad():
    return whatever(slow.submit(1, fail=True))
"#;

#[test]
fn a_call_that_waits_starts_when_the_calls_in_its_arguments_have_ended() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("waits", WAITS);
    let run = home.ok(&["submit", "waits/all"]);
    let (id, words) = eventually("it says what it waits for", Duration::from_secs(5), || {
        let id = format!("{run}:4");
        steps(&home, &run).get(3)?;
        Some((id.clone(), stands(&home, &id).1))
    });
    assert!(words.contains("waits for"), "{id}: {words}");
    assert_eq!(home.ok(&["result", &run]), "[1,2,3]");
    let mut marks = home.marks();
    assert_eq!(marks.pop().as_deref(), Some("after"));
    assert_eq!(marks.len(), 2);
}

#[test]
fn a_call_can_wait_for_some_of_its_arguments_only() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("waits", WAITS);
    assert_eq!(home.ok(&["run", "waits/one"]), "1");
    assert_eq!(home.marks(), ["slow 1", "after_first"]);
}

#[test]
fn a_call_that_waits_starts_also_when_they_ended_badly() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("waits", WAITS);
    assert_eq!(home.ok(&["run", "waits/bad"]), r#""ended""#);
    assert_eq!(home.marks(), ["slow 1", "whatever"]);
}

const SINGLE: &str = r#"
import ibid
from ibid import task, workflow
from marks import mark

@task(cache=True)
def fetch(n):
    mark("fetch")
    return n

@task()
def flaky(n):
    mark("flaky")
    raise ValueError(str(n))

@workflow()
def overrides():
    assert fetch(1) == fetch(1) == 1
    fetch.with_cache(False)(1)
    try:
        flaky.with_retries(2)(1)
    except ValueError:
        pass
    try:
        flaky.with_timeout(60).with_delay(0.01)(2)
    except ValueError:
        pass

@workflow()
def grouped():
    with ibid.group("pages"):
        pages = fetch.map(range(5))
        with ibid.group("inner"):
            last = fetch.submit(9)
    return [page.result() for page in pages] + [last.result(), fetch(5)]

@workflow()
def counting():
    import time
    for n in ibid.progress(range(40), label="rounds"):
        ibid.metric("loss", 1 / (n + 1))
        time.sleep(0.05)
"#;

#[test]
fn a_single_call_can_have_settings_of_its_own() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("single", SINGLE);
    home.ok(&["run", "single/overrides"]);
    assert_eq!((marks(&home, "fetch"), marks(&home, "flaky")), (2, 4));
}

#[test]
fn calls_made_in_a_group_are_one_row_with_counts() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("single", SINGLE);
    assert_eq!(home.ok(&["run", "single/grouped"]), "[0,1,2,3,4,9,5]");
    let shown = home.ok(&["show", "R1"]);
    assert!(shown.contains("pages ×5") && shown.contains("✓5"), "{shown}");
    assert!(shown.contains("pages / inner ×1"), "{shown}");
    assert_eq!(shown.matches("fetch").count(), 1, "{shown}");
    assert_eq!(home.ok(&["show", "R1", "--all"]).matches("fetch").count(), 7);
    assert_eq!(home.json(&["show", "R1:2"])["step"]["group"].as_str(), Some("pages"));
}

#[test]
fn progress_and_figures_are_shown_while_it_runs() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("single", SINGLE);
    let run = home.ok(&["submit", "single/counting"]);
    let execution = eventually("there is progress", Duration::from_secs(10), || {
        let execution = home.json(&["show", &run])["execution"].clone();
        (execution["progress"][0]["done"].as_f64()? >= 2.0).then_some(execution)
    });
    assert_eq!(execution["progress"][0]["total"].as_f64(), Some(40.0));
    assert_eq!(execution["progress"][0]["label"].as_str(), Some("rounds"));
    assert_eq!(execution["metrics"][0][0].as_str(), Some("loss"));
    assert!(home.ok(&["show", &format!("{run}:1")]).contains("rounds "));
    home.ok(&["result", &run]);
    assert_eq!(home.json(&["show", &run])["execution"]["progress"].as_array().map(Vec::len), Some(0));
}
