//! Environments with bases: results and targets are seen through them, and never written to them.

use ibid_tests::Home;

const MODULE: &str = r#"
from ibid import task, workflow
from marks import mark

@task(cache=True)
def fetch(n):
    mark(f"WHERE {n}")
    return n

@workflow()
def site(n=1):
    return fetch(n)
"#;

#[test]
fn results_are_seen_through_bases_and_written_only_to_the_environment_itself() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("pages", MODULE);
    let made = home.ok(&["env", "create", "staging", "--base", "default"]);
    assert_eq!(made, "default/staging created, based on default");
    home.ok(&["run", "pages/site"]);
    // The target and the result are those of the base.
    home.ok(&["-e", "staging", "run", "pages/site"]);
    assert_eq!(home.marks(), ["WHERE 1"]);
    assert_eq!(home.why("R2:2"), "hit");
    let why = home.ok(&["why", "R2:2"]);
    assert!(why.contains("environment 'default'"), "{why}");
    let execution = home.json(&["show", "R2:2"])["execution"].clone();
    assert_eq!(execution["source_environment"].as_str(), Some("default"));
    // What the derived one makes the base does not see.
    home.ok(&["-e", "staging", "run", "pages/site", "2"]);
    home.ok(&["run", "pages/site", "2"]);
    assert_eq!(home.marks(), ["WHERE 1", "WHERE 2", "WHERE 2"]);
    assert_eq!(home.why("R4:2"), "other_environment");
}

#[test]
fn the_nearest_registration_of_a_target_runs() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("pages", MODULE);
    home.ok(&["env", "create", "staging", "--base", "default"]);
    std::fs::create_dir(home.path().join("other")).unwrap();
    home.write("other/pages.py", &MODULE.replace("WHERE", "staging"));
    home.write("other/marks.py", &std::fs::read_to_string(home.path().join("marks.py")).unwrap());
    home.ok(&["-e", "staging", "register", "pages", "--dir", "other"]);
    home.ok(&["-e", "staging", "run", "pages/site", "1"]);
    home.ok(&["run", "pages/site", "2"]);
    assert_eq!(home.marks(), ["staging 1", "WHERE 2"]);
}

#[test]
fn environments_are_listed_and_circles_and_unknown_bases_refused() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.ok(&["env", "create", "a"]);
    home.ok(&["env", "create", "b", "--base", "a"]);
    home.ok(&["env", "create", "c", "--base", "b"]);
    let circle = home.fails(1, &["env", "create", "a", "--base", "c"]);
    assert!(circle.contains("c → b → a"), "{circle}");
    assert!(home.fails(1, &["env", "create", "a", "--base", "a"]).contains("cannot be based on"));
    assert!(home.fails(4, &["env", "create", "d", "--base", "nothing"]).contains("it has a, b, c"));
    assert!(home.ok(&["env", "create", "b", "--base", "a"]).contains("was there"));
    let names: Vec<_> = home.ok(&["env", "ls"]).lines().map(str::to_owned).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(!names.iter().any(|line| line.contains(" d ")), "{names:?}");
    home.fails(4, &["-e", "unknown", "targets"]);
}
