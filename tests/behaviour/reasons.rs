//! Every reason why a call runs is told, with the cause that comes first, and with what would have made it a hit.

use ibid_tests::Home;

const MODULE: &str = r#"
import os, time
from ibid import task, workflow

class Handle:
    """Pickles to something else each time."""
    def __init__(self, at):
        self.at = at
    def __reduce__(self):
        return (Handle, (time.perf_counter_ns(),))

@task(cache=True)
def plain(n):
    return n

@task()
def uncached(n):
    return n

@task(cache=True)
def flaky(n):
    if not os.path.exists("mended"):
        raise ValueError("not yet")
    return n

@task(cache=True)
def holds(handle):
    return 1

@task(cache=True, retries=1)
def twice(n):
    if os.path.exists(f"tried{n}"):
        return n
    open(f"tried{n}", "w").close()
    raise ValueError("the first time")

@workflow()
def call(name, n):
    return {"plain": plain, "uncached": uncached, "flaky": flaky, "twice": twice}[name](n)

@workflow()
def hold():
    return holds(Handle(1))
"#;

#[test]
fn every_cause_of_a_miss_is_told_with_what_would_have_made_it_a_hit() {
    let home = Home::new();
    let _daemon = home.daemon();
    let young = MODULE.replace("@task(cache=True)\ndef plain", "@task(cache=0.05)\ndef plain");
    let other = MODULE.replace("@task(cache=True)\ndef plain", "@task(cache=True, cache_version=\"2\")\ndef plain");
    home.register("why", MODULE);
    let mut told = Vec::new();
    let mut expect = |arguments: &[&str], fails: bool, step: &str, kind: &str, sentence: &str| {
        let arguments = [&["run"], arguments].concat();
        if fails {
            drop(home.fails(1, &arguments))
        } else {
            drop(home.ok(&arguments))
        }
        let why = home.json(&["why", step]);
        assert_eq!(why["kind"], kind, "{why}");
        assert!(why["sentence"].as_str().unwrap().contains(sentence), "{why}");
        told.push((kind.to_owned(), why["would_hit"].as_str().map(str::to_owned)));
    };
    expect(&["why/call", "plain", "1"], false, "R1:2", "no_match", "nothing was remembered in why:plain yet");
    expect(&["why/call", "plain", "1"], false, "R2:2", "hit", "took the result of R1:2.1");
    expect(&["why/call", "plain", "2"], false, "R3:2", "no_match", "its argument n differs");
    expect(&["why/call", "uncached", "1"], false, "R4:2", "off", "caching is off");
    expect(&["why/call", "plain", "1"], false, "R5:1", "by_hand", "started by hand");
    expect(&["why/call", "flaky", "1"], true, "R6:2", "no_match", "nothing was remembered");
    expect(&["why/call", "flaky", "1"], true, "R7:2", "last_failed", "did not succeed");
    expect(&["why/hold"], false, "R8:2", "no_stable_digest", "no digest");
    expect(&["why/call", "twice", "1"], false, "R9:2", "retry", "had ended badly");
    home.ok(&["cache", "forget", "R1:2"]);
    expect(&["why/call", "plain", "1"], false, "R10:2", "forgotten", "by hand");
    home.register("why", &young);
    std::thread::sleep(std::time::Duration::from_millis(100));
    expect(&["why/call", "plain", "1"], false, "R11:2", "too_old", "at most");
    home.register("why", &other);
    expect(&["why/call", "plain", "1"], false, "R12:2", "other_version", "version");
    home.register("why", MODULE);
    home.ok(&["rerun", "R12:2", "--wait"]);
    assert_eq!(home.why("R12:2.2"), "forced");
    // The same place under another name does not look into this one.
    home.ok(&["-e", "other", "register", "why"]);
    expect(&["-e", "other", "why/call", "plain", "1"], false, "R13:2", "other_environment", "'default'");
    // Whatever a caller could have changed is said.
    for (kind, would) in &told {
        let nothing_to_change = matches!(kind.as_str(), "hit" | "retry");
        assert_eq!(would.is_none(), nothing_to_change, "{kind}: {would:?}");
    }
}
