//! Recursion: every number is made once, however often it is asked for.

use std::time::Instant;

use ibid_tests::Home;

const MODULE: &str = r#"
from ibid import task, workflow

@task(cache=True)
def spread(n):
    if n < 2:
        return n
    first, second = spread.submit(n - 1), spread.submit(n - 2)
    return first.result() + second.result()

@task(cache=True)
def straight(n):
    return n if n < 2 else straight(n - 1) + straight(n - 2)

@workflow()
def start(kind, n):
    return {"spread": spread, "straight": straight}[kind](n)
"#;

fn counts(home: &Home, run: &str) -> (u64, u64) {
    let counts = &home.json(&["show", run])["run"]["counts"];
    (counts["ran"].as_u64().unwrap(), counts["cached"].as_u64().unwrap())
}

#[test]
fn fib_of_30_with_submit_executes_each_number_once() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fibs", MODULE);
    assert_eq!(home.ok(&["run", "fibs/start", "spread", "30"]), "832040");
    let (ran, cached) = counts(&home, "R1");
    // 31 numbers and the workflow itself; every number from 2 on asks for two others.
    assert_eq!((ran, cached), (31 + 1, 2 * 29 + 1 - 31));
}

#[test]
fn fib_of_30_without_submit_executes_each_number_once() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fibs", MODULE);
    assert_eq!(home.ok(&["run", "fibs/start", "straight", "30"]), "832040");
    assert_eq!(counts(&home, "R1").0, 31 + 1);
}

#[test]
fn fib_of_200_finishes() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("fibs", MODULE);
    let begun = Instant::now();
    assert_eq!(home.ok(&["run", "fibs/start", "straight", "200"]), "280571172992510140037611932413038677189525");
    assert_eq!(counts(&home, "R1").0, 201 + 1);
    eprintln!("fib(200) took {:?}", begun.elapsed());
}

#[test]
fn recursion_beyond_the_limit_of_processes_fails_and_names_the_limit() {
    let home = Home::new();
    let _daemon = home.daemon_with(&["--processes", "5"]);
    home.register("fibs", MODULE);
    let said = home.fails(1, &["run", "fibs/start", "straight", "30"]);
    assert!(said.contains("LimitError: all 5 processes of fibs wait"), "{said}");
    // Nothing is stuck afterwards, and what fits still runs.
    assert_eq!(home.ok(&["run", "fibs/start", "straight", "2"]), "1");
    assert!(home.ok(&["queue"]).contains("nothing waits"));
}
