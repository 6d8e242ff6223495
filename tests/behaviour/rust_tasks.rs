//! Tasks written in Rust keep the promises that those in Python do, and the two call each other.

use std::time::Duration;

use ibid_tests::terminal::Terminal;
use ibid_tests::{Daemon, Home, binaries, eventually};
use rustix::process::{Pid, Signal, kill_process};

/// A daemon that knows the program of `tests/rust/tasks.rs`.
fn home() -> (Home, Daemon) {
    let home = Home::new();
    let daemon = home.daemon();
    register(&home);
    (home, daemon)
}

fn register(home: &Home) {
    home.ok(&["register", "--bin", &binaries().join("rust-tasks").display().to_string()]);
}

fn run(home: &Home, target: &str, arguments: &[&str]) -> String {
    home.ok(&[&["run", &format!("rust-tasks/{target}")], arguments].concat())
}

fn fails(home: &Home, which: &str) -> String {
    home.fails(1, &["run", "rust-tasks/errors", which])
}

fn count(home: &Home, text: &str) -> usize {
    home.marks().iter().filter(|mark| mark.as_str() == text).count()
}

#[test]
fn a_call_that_was_made_before_is_not_made_again() {
    let (home, _daemon) = home();
    assert_eq!(run(&home, "sums", &["1", "2"]), "3");
    assert_eq!(run(&home, "sums", &["1", "2"]), "3");
    assert_eq!(count(&home, "add"), 1);
    assert_eq!(home.why("R2:2"), "hit");
    // Of what is at most an hour old, within a run and across runs.
    assert_eq!(run(&home, "read_posts", &["7"]), "\"a title\"");
    assert_eq!(run(&home, "read_posts", &["7"]), "\"a title\"");
    assert_eq!(count(&home, "posts"), 1);
    // A key of its own: the address does not count, and the second call joins the first.
    assert_eq!(run(&home, "products", &[]), r#"["7 from a","7 from a"]"#);
    assert_eq!(count(&home, "product"), 1);
    home.ok(&["rerun", "R1:2"]);
    eventually("it is made again by hand", Duration::from_secs(10), || (count(&home, "add") == 2).then_some(()));
}

#[test]
fn fibonacci_makes_each_number_once_async_and_blocking() {
    let (home, _daemon) = home();
    assert_eq!(run(&home, "fib", &["30"]), "832040");
    assert_eq!(count(&home, "fib"), 31);
    assert_eq!(run(&home, "fib_blocking", &["30"]), "832040");
    assert_eq!(count(&home, "fib"), 62);
    assert_eq!(run(&home, "fib_blocking", &["90"]), "2880067194370816120");
}

#[test]
fn errors_come_with_kind_message_and_causes_and_panics_harm_nobody_else() {
    let (home, _daemon) = home();
    let told = fails(&home, "odd");
    assert!(told.contains("Odd: 3 is odd") && told.contains("in execution R1:2.1"), "{told}");
    let told = fails(&home, "panic");
    assert!(told.contains("panic: there was to be one") && told.contains("tests/rust/tasks.rs:"), "{told}");
    assert!(home.ok(&["logs", "R2"]).contains("there was to be one"));
    let told = fails(&home, "parse");
    assert!(told.contains("ParseIntError: invalid digit found in string"), "{told}");
    assert_eq!(home.ok(&["run", "rust-tasks/errors", "again"]), "\"thrice\"");
    assert_eq!(count(&home, "thrice"), 3);
    assert_eq!(home.ok(&["run", "rust-tasks/errors", "fine"]), "\"2\"");
    let workers = home.json(&["workers"]);
    assert_eq!(workers.as_array().unwrap().len(), 1, "{workers}");
    assert_eq!(workers[0]["role"], "program", "{workers}");
}

#[test]
fn calls_are_arguments_and_results_and_count_by_what_they_lead_to() {
    let (home, _daemon) = home();
    assert_eq!(run(&home, "references", &[]), "10");
    assert_eq!(run(&home, "reads_references", &[]), "10");
    assert_eq!(count(&home, "sum"), 1);
    let shown = home.ok(&["show", "R1"]);
    assert!(shown.contains("parts"), "{shown}");
}

#[test]
fn many_values_handles_at_once_and_calls_that_nobody_asks_for_are_all_heard() {
    let (home, _daemon) = home();
    assert_eq!(run(&home, "many_medium", &["600"]), "24000000");
    assert_eq!(run(&home, "many_medium", &["600"]), "24000000");
    assert_eq!(run(&home, "at_once", &[]), "10");
    assert_eq!(run(&home, "asks_in_its_own_order", &["300"]), "300");
    let told = home.fails(1, &["run", "rust-tasks/forgets_a_call_that_is_refused"]);
    assert!(told.contains("nowhere/unknown"), "{told}");
    assert_eq!(run(&home, "greets", &["you"]), "\"hello you\"");
    assert_eq!(run(&home, "greets", &["you", "bye"]), "\"bye you\"");
    let told = fails(&home, "nan");
    assert!(told.contains("JSON has no NaN"), "{told}");
}

#[test]
fn a_program_that_cannot_be_started_fails_what_waits_for_it_and_says_why() {
    let (home, _daemon) = home();
    let program = home.path().join("moving");
    // By another process: what this one has open for writing its children have, too, and nobody can start it.
    let copied = std::process::Command::new("cp").arg(binaries().join("rust-tasks")).arg(&program).status();
    assert!(copied.unwrap().success());
    home.ok(&["register", "--bin", "moving"]);
    assert_eq!(home.ok(&["run", "moving/sums", "1", "2"]), "3");
    let workers = home.json(&["workers"]);
    let of_it = workers.as_array().unwrap().iter().find(|worker| worker["repository"] == "moving").unwrap();
    let pid = i32::try_from(of_it["pid"].as_i64().unwrap()).unwrap();
    // What stands there now ends at once, and says so.
    std::fs::remove_file(&program).unwrap();
    home.write("moving", "#!/bin/sh\necho no database >&2\nexit 3\n");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    eventually("its end is noticed", Duration::from_secs(10), || {
        let workers = home.json(&["workers"]);
        workers.as_array().unwrap().iter().all(|worker| worker["pid"] != pid).then_some(())
    });
    let told = home.fails(1, &["run", "moving/sums", "1", "3"]);
    assert!(told.contains("cannot be started") && told.contains("no database"), "{told}");
    std::fs::remove_file(&program).unwrap();
    let told = home.fails(1, &["run", "moving/sums", "1", "3"]);
    assert!(told.contains("cannot be started") && told.contains("No such file"), "{told}");
}

#[test]
fn a_program_that_was_built_anew_runs_as_soon_as_the_old_one_has_nothing_to_do() {
    let (home, _daemon) = home();
    let program = binaries().join("rust-tasks");
    let build = |trailer: &str| {
        let line =
            format!("(cat '{}'; printf %s '{trailer}') > new && chmod +x new && mv new moving", program.display());
        let built = std::process::Command::new("sh").args(["-c", &line]).current_dir(home.path()).status();
        assert!(built.unwrap().success());
    };
    let workers = || {
        let all = home.json(&["workers"]);
        let of_it = all.as_array().unwrap().iter().filter(|worker| worker["repository"] == "moving");
        of_it.map(|worker| worker["pid"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    build("one");
    home.ok(&["register", "--bin", "moving"]);
    assert_eq!(home.ok(&["run", "moving/sums", "1", "2"]), "3");
    let first = workers();
    assert_eq!(home.ok(&["run", "moving/sums", "1", "3"]), "4");
    assert_eq!(workers(), first);
    home.ok(&["submit", "moving/gives_up"]);
    eventually("it is busy", Duration::from_secs(10), || (count(&home, "gave up") == 1).then_some(()));
    build("two");
    assert_eq!(home.ok(&["run", "moving/sums", "1", "4"]), "5");
    assert_eq!(workers(), first, "it was busy");
    home.ok(&["cancel", "R3"]);
    eventually("the new one runs", Duration::from_secs(10), || {
        home.ok(&["run", "moving/sums", "1", "5"]);
        workers().iter().any(|worker| !first.contains(worker)).then_some(())
    });
}

#[test]
fn what_is_said_printed_and_counted_is_in_the_log() {
    let (home, _daemon) = home();
    run(&home, "talks", &[]);
    let log = home.ok(&["logs", "R1:2"]);
    assert!(log.contains("printed hello") && log.contains("said hello 2 times"), "{log}");
    let lines = home.json(&["logs", "R1:2"]);
    assert!(lines.to_string().contains(r#"["times",2]"#), "{lines}");
    assert_eq!(run(&home, "spawns", &[]), "42");
    let log = home.ok(&["logs", "R2:1"]);
    assert!(log.contains("rust-tasks/add was called outside of any execution"), "{log}");
    // Whoever says more than the daemon can take waits for it, like one that prints.
    let peak: u64 = run(&home, "says_much", &["300000"]).parse().unwrap();
    assert!(peak < 60, "the program held {peak} MiB");
}

#[test]
fn bursts_memos_options_and_large_values_are_as_elsewhere() {
    let (home, _daemon) = home();
    assert_eq!(run(&home, "bursts", &[]), r#"["c","c","c"]"#);
    assert_eq!(home.marks(), ["c"]);
    assert_eq!(run(&home, "remembers_within", &[]), "2");
    assert_eq!(count(&home, "looked up"), 1);
    assert_eq!(run(&home, "changes_options", &[]), "42");
    assert_eq!(count(&home, "add"), 2);
    assert_eq!(run(&home, "passes_large", &["20000000"]), "20000000");
    assert_eq!(run(&home, "passes_large", &["20000000"]), "20000000");
    assert_eq!(count(&home, "large"), 1);
}

#[test]
fn what_nobody_wants_any_more_ends_and_the_others_go_on() {
    let (home, _daemon) = home();
    assert!(home.fails(1, &["run", "rust-tasks/waits_in_vain", "false"]).contains("time limit of 0.3 s"));
    home.ok(&["submit", "rust-tasks/waits_in_vain", "true"]);
    eventually("it spins", Duration::from_secs(10), || (count(&home, "spins") == 1).then_some(()));
    assert_eq!(run(&home, "sums", &["5", "6"]), "11");
    home.ok(&["cancel", "R2"]);
    eventually("it notices", Duration::from_secs(10), || (count(&home, "noticed") == 1).then_some(()));
    assert_eq!(count(&home, "slept"), 0);
    assert_eq!(run(&home, "sums", &["6", "6"]), "12");
    let workers = home.json(&["workers"]);
    assert_eq!(workers.as_array().unwrap().len(), 1, "{workers}");
}

#[test]
fn what_is_dropped_while_it_waits_does_not_wait_any_more() {
    let (home, _daemon) = home();
    home.ok(&["submit", "rust-tasks/gives_up"]);
    eventually("it works on", Duration::from_secs(10), || (count(&home, "gave up") == 1).then_some(()));
    eventually("it waits for nothing", Duration::from_secs(10), || {
        home.json(&["show", "R1:1"])["execution"]["waiting_on"].as_array()?.is_empty().then_some(())
    });
    home.write("marks-go", "");
    assert_eq!(home.ok(&["result", "R1"]), "false");
}

#[test]
fn async_tasks_that_block_every_thread_do_not_make_their_program_deaf() {
    let (home, _daemon) = home();
    let threads = std::thread::available_parallelism().unwrap().get();
    home.ok(&["submit", "rust-tasks/blocks_every_thread", &(threads * 2).to_string()]);
    eventually("all threads are blocked", Duration::from_secs(20), || {
        (count(&home, "blocks") == threads).then_some(())
    });
    home.ok(&["cancel", "R1"]);
    eventually("all have noticed", Duration::from_secs(20), || (count(&home, "noticed") >= threads).then_some(()));
    assert_eq!(run(&home, "sums", &["5", "6"]), "11");
    assert_eq!(home.json(&["workers"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_program_that_is_killed_is_started_again_and_a_newer_one_takes_its_place() {
    let (home, _daemon) = home();
    let worker = || {
        let workers = home.json(&["workers"]);
        let all = workers.as_array().cloned().unwrap_or_default();
        all.first().and_then(|worker| worker["pid"].as_i64())
    };
    assert_eq!(run(&home, "sums", &["1", "1"]), "2");
    let first = worker().unwrap();
    home.ok(&["submit", "rust-tasks/waits_in_vain", "true"]);
    eventually("it spins", Duration::from_secs(10), || (count(&home, "spins") == 1).then_some(()));
    kill_process(Pid::from_raw(i32::try_from(first).unwrap()).unwrap(), Signal::KILL).unwrap();
    eventually("its execution is abandoned", Duration::from_secs(10), || {
        home.ok(&["runs"]).contains("abandoned").then_some(())
    });
    assert_eq!(run(&home, "sums", &["2", "2"]), "4");
    let second = worker().unwrap();
    assert_ne!(first, second);
    register(&home);
    assert_eq!(run(&home, "sums", &["3", "3"]), "6");
    eventually("the older one has ended", Duration::from_secs(10), || (worker()? != second).then_some(()));
    // A program that is no such program, and one that is not there.
    let wrong = home.fails(1, &["register", "--bin", "/bin/true"]);
    assert!(wrong.contains("ended before it said what it declares"), "{wrong}");
    let missing = home.fails(2, &["register", "--bin", "nowhere"]);
    assert!(missing.contains("is it built?"), "{missing}");
    let own = std::process::Command::new(binaries().join("rust-tasks"))
        .args(["register", "-e", "other"])
        .env("IBID_DATA_DIR", home.data())
        .env("IBID_SOCKET", home.socket())
        .env("MARKS", home.path().join("marks"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&own.stdout).contains("rust-tasks/sums"), "{own:?}");
    assert_eq!(home.ok(&["run", "-e", "other", "rust-tasks/sums", "1", "2"]), "3");
}

#[test]
fn a_sensor_goes_on_from_its_checkpoint() {
    let (home, daemon) = home();
    home.ok(&["sensor", "start", "rust-tasks/ticks", "5"]);
    eventually("it ticks", Duration::from_secs(10), || (count(&home, "beat 8") > 0).then_some(()));
    drop(daemon);
    let before = home.marks().len();
    let _daemon = home.daemon();
    eventually("it ticks again", Duration::from_secs(10), || (home.marks().len() > before + 2).then_some(()));
    assert_eq!(count(&home, "beat 5"), 1, "it began anew");
    home.ok(&["sensor", "stop", "rust-tasks/ticks"]);
}

const PRICES: &str = r#"
from ibid import stub, task, workflow
from marks import mark

@task(cache=True)
def price(product):
    mark(f"price of {product}")
    if product == "as text":
        return product
    return len(product) / 4

@stub("rust-tasks", cache=True)
def add(a, b): ...

@stub("rust-tasks")
def shouts(text): ...

@stub("rust-tasks")
def half(n): ...

@task(cache=True, cache_namespace="shared:value")
def value(n):
    mark("made in python")
    return f"{n} in python"

@workflow
def total(name):
    return [add(20, 22), shouts(name)]

@workflow
def same(n):
    return value(n)

@workflow
def odd():
    return half(3)
"#;

const PROJECT: &str = r#"
[repositories.prices]
python = "prices"

[repositories.fast]
bin = "BIN"

[tasks.shout]
run = "printf %s {text} | tr a-z A-Z"
parameters = ["text"]
"#;

/// Python, Rust and the shell in one project.
fn mixed() -> (Home, Daemon) {
    let home = Home::new();
    let daemon = home.daemon();
    home.write("prices.py", PRICES);
    home.write("ibid.toml", &PROJECT.replace("BIN", &binaries().join("rust-tasks").display().to_string()));
    home.ok(&["register"]);
    (home, daemon)
}

#[test]
fn python_calls_rust_and_rust_the_shell_in_one_run_that_the_screens_show() {
    let (home, _daemon) = mixed();
    assert_eq!(home.ok(&["run", "prices/total", "ibid"]), r#"[42,"IBID"]"#);
    let shown = home.json(&["rpc", "steps", r#"{"run":"R1"}"#]).to_string();
    for target in ["prices/total", "rust-tasks/add", "rust-tasks/shouts", "shell/shout"] {
        assert!(shown.contains(target), "{target}: {shown}");
    }
    let mut terminal = Terminal::open(&home, 120, 36, &[], &[]);
    terminal.wait_for("prices/total");
    terminal.press("\r");
    let screen = terminal.wait_for("shouts");
    assert!(screen.contains("shout \"ibid\"") && screen.contains("add 20 22"), "{screen}");
    // An error crosses the languages with its kind.
    let told = home.fails(1, &["run", "prices/odd"]);
    assert!(told.contains("Odd: 3 is odd"), "{told}");
}

#[test]
fn the_example_of_three_languages_does_what_it_says() {
    let home = Home::new();
    let _daemon = home.daemon();
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/examples/mixed");
    let project = std::fs::read_to_string(example.join("ibid.toml")).unwrap();
    let program = binaries().join("examples/prices").display().to_string();
    home.write("ibid.toml", &project.replace("../../../target/release/examples/prices", &program));
    home.write("shop.py", &std::fs::read_to_string(example.join("shop.py")).unwrap());
    home.ok(&["register"]);
    let prices = home.ok(&["run", "shop/catalogue", "usd"]);
    assert_eq!(prices, r#"{"chair":6.25,"table":6.25,"lamp":5.0}"#);
    let said = std::fs::read_to_string(example.join("README.md")).unwrap();
    assert!(said.contains(&prices), "the example says something else: {said}");
    home.ok(&["run", "shop/catalogue", "usd"]);
    assert!(home.ok(&["runs"]).contains("1 ran, 3 hit"), "{}", home.ok(&["runs"]));
}

#[test]
fn rust_calls_python_and_what_comes_back_must_be_of_the_type() {
    let (home, _daemon) = mixed();
    assert_eq!(run(&home, "mixed", &["chair"]), "1.25");
    assert_eq!(run(&home, "mixed", &["chair"]), "1.25");
    assert_eq!(count(&home, "price of chair"), 1);
    let told = fails(&home, "type");
    assert!(told.contains("WrongType") && told.contains("f64"), "{told}");
}

#[test]
fn the_same_json_is_the_same_call_from_either_language() {
    let values = [
        "1",
        "-7",
        "1.0",
        "1.5",
        "1e100",
        "0.1",
        "18446744073709551615",
        "true",
        "null",
        "\"text\"",
        "\"ä\\u20ac\\ud83d\\ude00\\n\"",
        "[1,[2,[]],{}]",
        "{\"b\":1,\"a\":[null,2.5]}",
        "\"\"",
    ];
    let (home, _daemon) = mixed();
    for (n, value) in values.iter().enumerate() {
        let (first, second, made) = match n % 2 {
            0 => ("rust-tasks/same", "prices/same", "in rust"),
            _ => ("prices/same", "rust-tasks/same", "in python"),
        };
        let made_first = home.ok(&["run", first, value]);
        assert!(made_first.contains(made), "{value}: {made_first}");
        assert_eq!(home.ok(&["run", second, value]), made_first, "{value}");
    }
    assert_eq!(home.marks().len(), values.len());
}

#[test]
fn outside_of_an_execution_the_function_just_runs() {
    #[ibid::task(cache, retries = 3)]
    fn double(n: i64) -> ibid::Result<i64> {
        if n < 0 { Err(ibid::Error::message("negative")) } else { Ok(2 * n) }
    }
    #[ibid::task]
    async fn twice(n: i64) -> ibid::Result<i64> {
        Ok(double(n)? + double::submit(n).await?)
    }
    assert_eq!(double(4).unwrap(), 8);
    assert_eq!(double::submit(4).wait().unwrap(), 8);
    assert_eq!(double(-1).unwrap_err().to_string(), "negative");
    assert_eq!(double::map([1, 2]).into_iter().map(|one| one.wait().unwrap()).sum::<i64>(), 6);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(async { twice(3).await.unwrap() + twice::submit(1).await.unwrap() }), 16);
}

#[test]
fn a_client_in_rust_calls_and_subscribes() {
    use ibid::protocol::{EventBody, ListRuns, Scope, Submit, Topic};
    let (home, _daemon) = home();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = ibid::Client::connect_to(&home.socket()).await.unwrap();
        let mut runs = client.subscribe(Topic::Runs { scope: None, limit: None }).await.unwrap();
        let first = runs.next().await.unwrap().unwrap();
        assert!(first.snapshot);
        let number = ibid::model::Json::parse("4").unwrap();
        let submit = |n: &ibid::model::Json| Submit {
            arguments: vec![n.clone(), n.clone()],
            ..Submit::new(Scope::default(), "rust-tasks/sums")
        };
        // Many at once on one connection.
        let both = tokio::join!(client.call(submit(&number)), client.call(submit(&number)));
        assert_ne!(both.0.unwrap().run, both.1.unwrap().run);
        let ended = loop {
            let EventBody::Runs(runs) = runs.next().await.unwrap().unwrap().body else { continue };
            if let Some(run) = runs.into_iter().find(|run| run.state.is_final()) {
                break run;
            }
        };
        assert_eq!(ended.target, "rust-tasks/sums");
        let unknown = client.call(Submit::new(Scope::default(), "rust-tasks/sum_s")).await.unwrap_err();
        assert!(unknown.to_string().contains("did you mean"), "{unknown}");
        let listed = client
            .call(ListRuns { scope: None, state: None, target: None, since: None, limit: None, cursor: None })
            .await;
        assert_eq!(listed.unwrap().runs.len(), 2);
        drop(_daemon);
        let lost = loop {
            match runs.next().await {
                Some(Ok(_)) => {}
                other => break other,
            }
        };
        assert!(lost.unwrap().is_err());
        assert!(runs.next().await.is_none());
    });
}
