//! Python workers: values, calls, errors, output, crashes.

use std::time::{Duration, Instant};

use ibid_tests::{Home, eventually, pythons};

const VALUES: &str = r#"
import collections, dataclasses, datetime as dt, decimal, enum, fractions, math, pathlib, sys, uuid
from ibid import task, workflow

class Colour(enum.Enum):
    RED = 1

class Level(enum.IntEnum):
    LOW = 1

@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: float

Pair = collections.namedtuple("Pair", "a b")

class Name(str):
    pass

VALUES = [
    None, True, 0, -7, 2**70, 10**5000, 1.5, -0.0, math.inf, "", "é\n\"", "\ud800", [], [1, [2]], {}, {"a": {"b": None}},
    {"$type": "mine"}, {1: "a", (2, 3): "b"}, (), (1, (2,)), {1, 2}, frozenset("ab"), b"\x00\xff", bytearray(b"x"),
    1 + 2j, decimal.Decimal("1.10"), fractions.Fraction(1, 3), dt.date(2026, 1, 2), dt.time(1, 2, 3, 4),
    dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc), dt.timedelta(days=-1, microseconds=5),
    uuid.UUID(int=5), pathlib.Path("/tmp/x"), pathlib.PurePosixPath("a/b"), Colour.RED, Level.LOW, Point(1, 2.0),
    Pair(1, "b"), Name("n"), range(3), ..., "long" * 2000, ["x" * 3000, {"y": list(range(2000))}], b"z" * 5000,
]

@task(cache=True)
def same(value):
    return value

@workflow()
def all():
    wrong = []
    for value in VALUES:
        back = same(value)
        same_text = back == value if type(value) is int else repr(back) == repr(value)
        if type(back) is not type(value) or not same_text:
            wrong.append([repr(value)[:60], repr(back)[:60]])
    nan = same(math.nan)
    if not math.isnan(nan):
        wrong.append("nan")
    return wrong

@task(cache=True)
def kind(value):
    return repr(type(value)) + repr(value)[:50]

@workflow()
def apart():
    values = [1, 1.0, True, "1", (1,), [1], {1}, frozenset([1]), 0.0, -0.0, b"1", Level.LOW, Name("1"), None, "None"]
    return len({kind(value) for value in values}) == len(values)
"#;

#[test]
fn values_keep_their_types_on_the_way() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("values", VALUES);
    assert_eq!(home.ok(&["run", "values/all"]), "[]");
    let first: u64 = home.json(&["show", "R1"])["run"]["counts"]["ran"].as_u64().unwrap();
    // Another process makes the same digests of them: all but none are hits.
    home.ok(&["daemon", "status"]);
    home.ok(&["register", "values"]);
    assert_eq!(home.ok(&["run", "values/all"]), "[]");
    let counts = home.json(&["show", "R2"])["run"]["counts"].clone();
    assert_eq!((counts["ran"].as_u64(), counts["cached"].as_u64()), (Some(1), Some(first - 1)));
}

#[test]
fn values_of_different_types_are_never_the_same_call() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("values", VALUES);
    assert_eq!(home.ok(&["run", "values/apart"]), "true");
}

const CALLS: &str = r#"
import asyncio, concurrent.futures, os, time
from ibid import Execution, ExecutionError, task, workflow

@task(cache=True)
async def double(n):
    await asyncio.sleep(0.05)
    return 2 * n

@task()
def add(a, b=10, *rest, c=100, **more):
    return [a, b, list(rest), c, more]

@task(cache=True)
def follow(execution):
    assert isinstance(execution, Execution)
    return execution.result() + 1

@task()
def hand_on(n):
    return double.submit(n)

@workflow()
async def gather():
    values = await asyncio.gather(double(1), double(2), double(1), double.submit(3))
    return values

@workflow()
def arguments():
    return [add(1), add(1, 2, 3, 4, c=5, d=6), add(b=2, a=1)]

@workflow()
def references():
    handle = double.submit(4)
    other = double.submit(4)
    return [follow(handle), follow(other), hand_on(5)]

@workflow()
def mapped():
    return [execution.result() for execution in double.map([1, 2, 3])] + [e.result()[0] for e in add.map([(7, 8)])]

@workflow()
def threads():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(double, range(8)))

@task(cache=True)
def unless_three_of_seven(n):
    if n % 7 == 3:
        raise ValueError(f"not {n}")
    return n

@workflow()
def asks_in_its_own_order(count, pool):
    asked = [place % (count - 20) for place in range(count)]
    handles = unless_three_of_seven.map(asked[: count // 2])
    handles += [unless_three_of_seven.submit(n) for n in asked[count // 2 :]]

    def is_right(turn):
        place = turn * 37 % count
        n = asked[place]
        try:
            return handles[place].result() == n and n % 7 != 3
        except ValueError as error:
            return n % 7 == 3 and f"not {n}" in str(error)

    with concurrent.futures.ThreadPoolExecutor(pool) as threads:
        return sum(threads.map(is_right, range(count)))

@task()
def slow():
    time.sleep(30)

@workflow()
async def gives_up():
    handle = slow.submit()
    try:
        await asyncio.wait_for(handle, 0.05)
    except asyncio.TimeoutError:
        open("gave-up", "w").close()
    while not os.path.exists("go"):
        await asyncio.sleep(0.005)
    handle.cancel()

@workflow()
def polled():
    handle = double.submit(77)
    first = handle.poll()
    return [first, handle.poll(5)]
"#;

#[test]
fn calls_of_every_form_work() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("calls", CALLS);
    assert_eq!(home.ok(&["run", "calls/gather"]), "[2,4,2,6]");
    assert_eq!(home.ok(&["run", "calls/arguments"]), r#"[[1,10,[],100,{}],[1,2,[3,4],5,{"d":6}],[1,2,[],100,{}]]"#);
    assert_eq!(home.ok(&["run", "calls/references"]), "[9,9,10]");
    assert_eq!(home.ok(&["run", "calls/mapped"]), "[2,4,6,7]");
    assert_eq!(home.ok(&["run", "calls/polled"]), "[null,154]");
    let run = home.ok(&["submit", "calls/gives_up"]);
    let gave_up = || home.path().join("gave-up").exists().then_some(());
    eventually("it gives up waiting", Duration::from_secs(10), gave_up);
    eventually("it waits for nothing", Duration::from_secs(10), || {
        let shown = home.json(&["show", &format!("{run}:1")]);
        shown["execution"]["waiting_on"].as_array()?.is_empty().then_some(())
    });
    home.write("go", "");
    home.ok(&["result", &run]);
    for threads in ["1", "4"] {
        assert_eq!(home.ok(&["run", "calls/asks_in_its_own_order", "200", threads]), "200");
    }
}

#[test]
fn calls_fed_by_equal_results_are_the_same_call() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("calls", CALLS);
    home.ok(&["run", "calls/references"]);
    assert_eq!(home.ok(&["run", "calls/references"]), "[9,9,10]");
    assert_eq!(home.why("R2:4"), "hit");
}

#[test]
fn a_plain_script_just_runs_the_functions() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("calls", CALLS);
    home.write(
        "script.py",
        "import asyncio\nimport calls\nimport ibid\nassert calls.add(1) == [1, 10, [], 100, {}]\nassert asyncio.run(calls.double(2)) == 4\nassert calls.add.submit(1).result()[0] == 1\nassert [e.result() for e in calls.double.map([1, 2])] == [2, 4]\nprint(ibid.run('calls/mapped'))\ntry:\n    ibid.run('calls/mapped', 1)\nexcept ibid.IbidError as error:\n    print(error.kind)\n",
    );
    let output = std::process::Command::new("python3")
        .arg("script.py")
        .current_dir(home.path())
        .env("PYTHONPATH", home.data().join("python"))
        .env("IBID_SOCKET", home.socket())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim(), "[2, 4, 6, 7]\nbad_request");
}

const TROUBLE: &str = r#"
import ctypes, os, subprocess, sys, time
from ibid import ExecutionError, log_info, log_warning, task, workflow

class Odd(Exception):
    def __init__(self, code, hint):
        super().__init__(f"odd {code}")
        self.code = code

@task()
def fail(kind):
    if kind == "value":
        raise ValueError("wrong value")
    if kind == "key":
        raise KeyError("missing")
    if kind == "os":
        raise FileNotFoundError(2, "gone", "/nowhere")
    if kind == "odd":
        raise Odd(7, "hint")
    if kind == "exit":
        sys.exit(3)
    if kind == "crash":
        os.kill(os.getpid(), 11)
    if kind == "leave":
        os._exit(5)
    if kind == "function":
        return lambda: 1

@workflow()
def caught(kind):
    try:
        fail(kind)
    except ValueError as error:
        return ["ValueError", isinstance(error, ExecutionError), str(error), "wrong value" in error.remote_traceback]
    except LookupError as error:
        return ["LookupError", error.args[0], error.kind]
    except OSError as error:
        return ["OSError", error.errno, error.filename]
    except ExecutionError as error:
        return [type(error).__name__, error.state, str(error)]

@workflow()
def plain(kind):
    return fail(kind)

@task()
def talk():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    sys.stdout.flush()
    ctypes.CDLL(None).puts(b"from c")
    subprocess.run(["sh", "-c", "echo from a child; echo also > /dev/stderr"])
    log_info("{n} pages from {site}", n=3, site="here")
    log_warning("plain")
    sys.stdout.write("no end")

@task()
def flood(megabytes):
    chunk = (b"x" * 99 + b"\n") * 10486
    for _ in range(megabytes):
        os.write(1, chunk)
    print("the last line")

@workflow()
def talkative():
    talk()

@workflow()
def flooding(megabytes):
    flood(megabytes)
    return "done"

@workflow()
def sleepy(seconds):
    time.sleep(seconds)
    return "awake"

@task(retries=(2, 0.01), cache=True)
def flaky(path):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < 3:
        raise RuntimeError("not yet")
    return "at last"

@workflow()
def patient(path):
    return flaky(path)

@task(timeout=0.2)
def slow():
    time.sleep(60)

@workflow()
def hurried():
    return slow()
"#;

#[test]
fn errors_arrive_as_what_they_were_with_the_remote_traceback() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("trouble", TROUBLE);
    assert_eq!(home.ok(&["run", "trouble/caught", "value"]), r#"["ValueError",true,"wrong value",true]"#);
    assert_eq!(home.ok(&["run", "trouble/caught", "key"]), r#"["LookupError","missing","KeyError"]"#);
    assert_eq!(home.ok(&["run", "trouble/caught", "os"]), r#"["OSError",2,"/nowhere"]"#);
    assert_eq!(home.ok(&["run", "trouble/caught", "odd"]), r#"["Odd","failed","odd 7"]"#);
    let said = home.fails(1, &["run", "trouble/plain", "value"]);
    assert!(said.contains("raise ValueError(\"wrong value\")"), "{said}");
}

#[test]
fn whatever_user_code_does_to_its_process_only_its_execution_ends() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("trouble", TROUBLE);
    assert_eq!(home.ok(&["run", "trouble/caught", "exit"]), r#"["ExecutionError","failed","SystemExit: 3"]"#);
    let crashed = home.ok(&["run", "trouble/caught", "crash"]);
    assert!(crashed.contains("abandoned") && crashed.contains("SIGSEGV"), "{crashed}");
    let left = home.ok(&["run", "trouble/caught", "leave"]);
    assert!(left.contains("abandoned") && left.contains("code 5"), "{left}");
    let function = home.fails(1, &["run", "trouble/plain", "function"]);
    assert!(function.contains("cannot be sent or kept"), "{function}");
    assert!(home.ok(&["run", "trouble/caught", "value"]).contains("ValueError"));
}

#[test]
fn everything_that_is_written_is_in_the_log_of_its_execution() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("trouble", TROUBLE);
    home.ok(&["run", "trouble/talkative"]);
    let log = home.json(&["logs", "R1:2"]);
    let lines: Vec<_> = log["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{}: {}", line["level"].as_str().unwrap(), line["text"].as_str().unwrap()))
        .collect();
    for expected in [
        "stdout: to stdout",
        "stderr: to stderr",
        "stdout: from c",
        "stdout: from a child",
        "stderr: also",
        "info: 3 pages from here",
        "warning: plain",
        "stdout: no end",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected:?} is not in {lines:?}");
    }
    let info = log["lines"].as_array().unwrap().iter().find(|line| line["level"] == "info").unwrap();
    assert_eq!(info["values"], serde_json::json!([["n", 3], ["site", "here"]]));
}

#[test]
fn a_gibibyte_of_output_is_borne_and_its_end_kept() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("trouble", TROUBLE);
    assert_eq!(home.ok(&["run", "trouble/flooding", "1024"]), "\"done\"");
    let log = home.json(&["logs", "R1:2"]);
    let lines = log["lines"].as_array().unwrap();
    assert_eq!(lines.last().unwrap()["text"], "the last line");
    let total = log["dropped"].as_u64().unwrap() + lines.len() as u64;
    assert_eq!(total, 1024 * 10486 + 1);
    let memory = home.json(&["daemon", "status"])["memory_bytes"].as_u64().unwrap();
    assert!(memory < 200 * 1024 * 1024, "the daemon holds {memory} bytes");
}

#[test]
fn a_failed_execution_is_tried_again_as_often_as_it_asks_for() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("trouble", TROUBLE);
    assert_eq!(home.ok(&["run", "trouble/patient", "tries"]), "\"at last\"");
    let step = home.json(&["show", "R1:2"]);
    let states: Vec<_> =
        step["step"]["attempts"].as_array().unwrap().iter().map(|a| a["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["failed", "failed", "succeeded"]);
    assert_eq!(home.why("R1:2.3"), "retry");
}

#[test]
fn an_execution_over_its_time_limit_is_killed() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("trouble", TROUBLE);
    let begun = Instant::now();
    assert!(home.fails(1, &["run", "trouble/hurried"]).contains("TimeoutError"));
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(home.json(&["show", "R1:2"])["execution"]["state"], "timed_out");
}

#[test]
fn a_cancelled_run_ends_at_once_and_its_process_with_it() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("trouble", TROUBLE);
    let run = home.ok(&["submit", "trouble/sleepy", "60"]);
    eventually("it runs", Duration::from_secs(10), || {
        (home.json(&["show", &run])["execution"]["state"] == "running").then_some(())
    });
    home.ok(&["cancel", &run]);
    assert_eq!(home.json(&["show", &run])["execution"]["state"], "cancelled");
    eventually("its worker is gone", Duration::from_secs(10), || {
        let workers = home.json(&["workers"]);
        workers.as_array().unwrap().iter().all(|worker| worker["state"] != "busy").then_some(())
    });
    assert_eq!(home.ok(&["run", "trouble/sleepy", "0"]), "\"awake\"");
}

#[test]
fn registering_again_runs_the_new_code_from_the_next_call_on() {
    let home = Home::new();
    let _daemon = home.daemon();
    for value in 1..=5 {
        home.register("fresh", &format!("from ibid import workflow\n\n@workflow()\ndef go():\n    return {value}\n"));
        assert_eq!(home.ok(&["run", "fresh/go"]), value.to_string());
    }
}

#[test]
fn a_module_that_leaves_a_thread_running_is_not_forked() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write(
        "threaded.py",
        "import threading, time\nfrom ibid import task, workflow\n\nlock = threading.Lock()\n\ndef hold():\n    while True:\n        with lock:\n            time.sleep(0.5)\n\nthreading.Thread(target=hold, daemon=True).start()\n\n@workflow()\ndef go(n):\n    with lock:\n        return n\n",
    );
    assert!(home.ok(&["register", "threaded"]).contains("would not survive a fork"));
    assert_eq!(home.ok(&["run", "threaded/go", "4"]), "4");
}

#[test]
fn a_module_that_must_not_be_forked_is_imported_by_each_executor_itself() {
    let home = Home::new();
    let _daemon = home.daemon();
    let module = "import os\nfrom ibid import workflow\n\nIMPORTED_BY = os.getpid()\n\n@workflow()\ndef go():\n    return IMPORTED_BY == os.getpid()\n";
    home.register("own", module);
    assert_eq!(home.ok(&["run", "own/go"]), "false");
    home.ok(&["register", "own", "--no-fork"]);
    assert_eq!(home.ok(&["run", "own/go"]), "true");
    home.write("ibid.toml", "[repositories.own]\npython = \"own\"\nfork = false\nconcurrency = 2\n");
    home.ok(&["register"]);
    assert_eq!(home.ok(&["run", "own/go"]), "true");
}

const OPTIONS: &str = r#"
import sys
import ibid
from ibid import stub, task, workflow

@task(memo=True)
def same(n):
    return n

@task(defer=lambda n: "all", delay=1)
def last(n):
    return n

@task(wait="call")
def after(call):
    return call.result()

@task(name="large", cache=60, cache_version="2", retries=(1, 0.01, 0.02), timeout=60)
def _large(size):
    return "x" * size

@stub("options", name="large")
def large(size: int) -> str: ...

@workflow(memo=True)
def all():
    with ibid.group("threes"):
        threes = [execution.result() for execution in ibid.progress(same.map(range(3)))]
    older, newer = last.submit(1), last.submit(2)
    ibid.metric("figure", 0.5)
    return ["%d.%d" % sys.version_info[:2], threes, after(same.submit(1)), older.result(), len(large(100_000))]
"#;

#[test]
fn every_python_that_is_there_runs_the_package() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write("values.py", VALUES);
    home.write("calls.py", CALLS);
    home.write("options.py", OPTIONS);
    for python in pythons() {
        let path = python.path.display().to_string();
        home.ok(&["register", "values", "calls", "options", "--python", &path]);
        assert_eq!(home.ok(&["run", "values/all"]), "[]", "{python:?}");
        assert_eq!(home.ok(&["run", "calls/gather"]), "[2,4,2,6]", "{python:?}");
        assert_eq!(home.ok(&["run", "calls/mapped"]), "[2,4,6,7]", "{python:?}");
        assert_eq!(home.ok(&["run", "calls/threads"]), "[0,2,4,6,8,10,12,14]", "{python:?}");
        let version = home.ok(&["run", "options/all"]);
        assert_eq!(version, format!(r#"["{}",[0,1,2],1,2,100000]"#, python.version), "{python:?}");
    }
}
