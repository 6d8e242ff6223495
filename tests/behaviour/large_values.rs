//! Large values: files that are handed over, kept once, and never held in the daemon.

use std::path::Path;

use ibid_tests::Home;

const MODULE: &str = r#"
import hashlib
from ibid import Execution, task, workflow
from marks import mark

@task(cache=True)
def make(size, fill="x"):
    mark("make")
    return fill * size

@task(cache=True)
def measure(text):
    mark("measure")
    return len(text)

@task()
def digest(data):
    return hashlib.sha256(data).hexdigest()

@task(cache=True)
def total(calls):
    mark("total")
    return sum(len(call.result()) for call in calls)

@workflow()
def both(size):
    text = make(size)
    return [measure(text), measure("x" * size), measure(make.submit(size).result())]

@workflow()
def twice(size):
    return [len(make(size)), len(make.with_cache(False)(size))]

@workflow()
def data(size):
    import random
    data = random.Random(7).randbytes(size)
    assert digest(data) == hashlib.sha256(data).hexdigest()
    return data

@workflow()
def references():
    calls = [make.submit(10, chr(97 + n % 26) + str(n)) for n in range(3000)]
    return total(calls)

@workflow()
def nested():
    return [make.submit(3, str(n)) for n in range(3000)]

@workflow()
def size(text):
    return len(text)

@workflow()
def many(*items, **named):
    return [len(item) for item in items] + sorted([name, len(item)] for name, item in named.items())

@workflow()
def fan(n):
    return gather(make.map((1, str(k)) for k in range(n)))

@task(wait=True)
def gather(calls):
    return len(calls)

@workflow()
def huge(size):
    return measure(make(size))
"#;

/// Runs `script.py` as anybody would, with the package on its path.
fn run_script(home: &Home) -> std::process::Output {
    std::process::Command::new("python3")
        .arg(home.path().join("script.py"))
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/python"))
        .env("IBID_SOCKET", home.socket())
        .env("IBID_DATA_DIR", home.data())
        .output()
        .unwrap()
}

fn files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

#[test]
fn large_arguments_and_results_keep_their_identity_and_are_kept_once() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("large", MODULE);
    assert_eq!(home.ok(&["run", "large/both", "3000000"]), "[3000000,3000000,3000000]");
    assert_eq!(home.marks(), ["make", "measure"]);
    assert_eq!(files(&home.data().join("blobs")), 1);
    assert_eq!(home.ok(&["run", "large/twice", "3000000"]), "[3000000,3000000]");
    assert_eq!(files(&home.data().join("blobs")), 1);
    let left = std::fs::read_dir(home.data().join("spool")).unwrap().flatten();
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().contains("value")).collect();
    assert!(left.is_empty(), "these are left behind: {left:?}");
}

#[test]
fn bytes_come_through_and_are_printed_raw() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("large", MODULE);
    let run = home.ok(&["submit", "large/data", "2000000"]);
    let output = home.ibid(&["result", "--raw", &run]);
    assert!(output.status.success());
    assert_eq!(output.stdout.len(), 2_000_000);
    let text = home.ok(&["result", &run]);
    assert!(text.starts_with(r#"{"$type":"bytes","base64":""#));
    // A plain script gets the value.
    home.write("script.py", "import ibid\nassert len(ibid.run('large/data', 2000000)) == 2000000\nprint('fine')\n");
    let script = run_script(&home);
    assert_eq!(String::from_utf8_lossy(&script.stdout), "fine\n", "{}", String::from_utf8_lossy(&script.stderr));
}

#[test]
fn references_inside_large_values_lead_to_their_results() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("large", MODULE);
    let total = home.ok(&["run", "large/references"]);
    assert_eq!(home.ok(&["run", "large/references"]), total);
    assert_eq!(home.marks().iter().filter(|mark| *mark == "total").count(), 1);
    let nested = home.ok(&["run", "large/nested"]);
    assert!(nested.starts_with(r#"["000","111","222""#), "{}", &nested[..100]);
}

#[test]
fn a_large_value_that_was_lost_says_so_and_can_be_made_again() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("large", MODULE);
    home.ok(&["run", "large/huge", "1000000"]);
    std::fs::remove_dir_all(home.data().join("blobs")).unwrap();
    let told = home.fails(1, &["result", "R1:2"]);
    assert!(told.contains("ibid rerun R1:2.1"), "{told}");
    home.ok(&["rerun", "--wait", "R1:2"]);
    assert_eq!(home.ok(&["result", "R1:2"]).len(), 1_000_002);
}

#[test]
fn large_arguments_of_a_start_by_hand_come_through_in_messages_and_as_files() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("large", MODULE);
    let text = "x".repeat(100_000);
    for _ in 0..3 {
        assert_eq!(home.ok(&["run", "large/size", &text]), "100000");
    }
    assert_eq!(
        home.ok(&["run", "large/many", &text, "ab", "--arg", &format!("c={text}")]),
        r#"[100000,2,["c",100000]]"#
    );
    home.write(
        "script.py",
        "import ibid\nt = 'x' * 200000\nprint(ibid.run('large/size', t), ibid.run('large/many', t, 'ab', c=t))\n",
    );
    let script = run_script(&home);
    let told = String::from_utf8_lossy(&script.stdout).into_owned();
    assert_eq!(told, "200000 [200000, 2, ['c', 200000]]\n", "{}", String::from_utf8_lossy(&script.stderr));
}

#[test]
fn a_reference_to_a_file_inside_of_a_value_is_refused() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("large", MODULE);
    let blob = r#"{"$type":"blob","hash":"00","path":"/etc/passwd"}"#;
    for argument in [blob.to_owned(), format!("[{blob}]"), blob.replace("00", &"0".repeat(64))] {
        let told = home.ibid(&["run", "large/size", &argument]);
        assert!(!told.status.success(), "{argument}");
    }
    assert!(home.json(&["runs"])["runs"].as_array().unwrap().is_empty());
}

#[test]
fn a_call_that_waits_for_thousands_starts_after_the_last() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("large", MODULE);
    assert_eq!(home.ok(&["run", "large/fan", "3000"]), "3000");
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_gibibyte_passes_and_the_daemons_memory_grows_by_less_than_64_mebibytes() {
    let home = Home::new();
    let daemon = home.daemon();
    home.register("large", MODULE);
    home.ok(&["run", "large/huge", "1000"]);
    let before = resident_kib(daemon.pid());
    assert_eq!(home.ok(&["run", "large/huge", "1073741824"]), "1073741824");
    let after = resident_kib(daemon.pid());
    assert!(after - before < 64 * 1024, "it grew from {before} to {after} KiB");
    assert_eq!(home.marks(), ["make", "measure", "make", "measure"]);
}
