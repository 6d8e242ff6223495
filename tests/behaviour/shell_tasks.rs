//! Shell tasks of a project file, as targets for all.

use ibid_tests::Home;

const PROJECT: &str = r#"
[repositories.news]
python = "news"

[tasks.greet]
run = ["printf", "%s, %s!", "{greeting}", "{name}"]
parameters = ["name", { name = "greeting", default = "Hello" }]
cache = true
doc = "Greets somebody"

[tasks.count]
run = "cat *.txt | wc -c | tr -d ' \n'"
inputs = ["*.txt"]
env = ["FLAVOUR"]
cache = "10m"

[tasks.quote]
run = "printf '%s' {text} && echo to the log >&2"
parameters = ["text"]

[tasks.broken]
run = ["sh", "-c", "echo partial; echo why >&2; exit 3"]
retries = 1
"#;

const NEWS: &str = r#"
import ibid
from ibid import stub, task, workflow

@stub("shell", name="greet", cache=True)
def greet(name, greeting="Hello"): ...

@stub("shell", cache=True)
def count(): ...

@stub("shell")
def broken(): ...

@task()
def someone():
    return "Ada"

@workflow()
def front():
    return [greet(someone.submit()), greet("Bob", greeting="Hi"), greet("Ada"), count(), count()]

@workflow()
def fails():
    try:
        broken()
    except ibid.ExecutionError as error:
        return [error.kind, str(error)]
"#;

fn project() -> Home {
    let home = Home::new();
    home.write("ibid.toml", PROJECT);
    home.write("news.py", NEWS);
    home.write("a.txt", "12345");
    home
}

#[test]
fn a_shell_task_is_a_target_for_the_command_line_and_for_python() {
    let home = project();
    let _daemon = home.daemon();
    let registered = home.ok(&["register"]);
    assert!(registered.contains("shell/greet") && registered.contains("Greets somebody"), "{registered}");
    assert_eq!(home.ok(&["run", "shell/greet", "Ada"]), "\"Hello, Ada!\"");
    assert_eq!(home.ok(&["result", "R1", "--raw"]), "Hello, Ada!");
    assert_eq!(home.ok(&["run", "shell/greet", "--arg", "name=Bob", "--arg", "greeting=Hi"]), "\"Hi, Bob!\"");
    assert!(home.fails(2, &["run", "shell/greet"]).contains("misses the argument 'name'"));
    let expected = r#"["Hello, Ada!","Hi, Bob!","Hello, Ada!","5","5"]"#;
    assert_eq!(home.ok(&["run", "news/front"]), expected);
    // The call with a reference and the one with its value are two keys; equal ones are one.
    assert_eq!(home.why("R3:7"), "hit");
    // Input files and variables are part of the key, and of what why compares.
    home.write("a.txt", "1234567");
    assert_eq!(home.ok(&["run", "news/front"]), expected.replace("\"5\"", "\"7\""));
    let why = home.ok(&["why", "R4:6"]);
    assert!(why.contains("inputs"), "{why}");
    let logs = home.ok(&["run", "shell/quote", "it's; $HOME `x` \"y\""]);
    assert_eq!(logs, r#""it's; $HOME `x` \"y\"""#);
    assert!(home.ok(&["logs", "R5"]).contains("to the log"));
}

#[test]
fn a_failed_shell_task_is_tried_again_and_says_its_code() {
    let home = project();
    let _daemon = home.daemon();
    home.ok(&["register"]);
    assert!(home.fails(1, &["run", "shell/broken"]).contains("exited with code 3"));
    assert_eq!(home.json(&["show", "R1"])["step"]["attempts"].as_array().unwrap().len(), 2);
    let told = home.ok(&["run", "news/fails"]);
    assert!(told.contains("ExitCode") && told.contains("code 3"), "{told}");
    assert!(home.ok(&["logs", "R1"]).contains("why"));
}

#[test]
fn started_by_hand_with_the_cache_a_shell_task_hits_until_its_inputs_change() {
    let home = project();
    let _daemon = home.daemon();
    home.ok(&["register"]);
    let go = || home.ok(&["run", "shell/count", "--use-cache"]);
    assert_eq!([go(), go()], ["\"5\"", "\"5\""]);
    assert_eq!(home.why("R2"), "hit");
    assert!(home.ok(&["run", "shell/count", "--use-cache", "--explain"]).contains("would take"));
    home.write("b.txt", "1");
    assert_eq!(go(), "\"6\"");
    assert_eq!(home.why("R3"), "no_match");
}

#[test]
fn registering_the_project_again_replaces_its_tasks() {
    let home = project();
    let _daemon = home.daemon();
    home.ok(&["register"]);
    home.write("ibid.toml", "[tasks.greet]\nrun = \"echo changed\"\n");
    home.ok(&["register"]);
    assert_eq!(home.ok(&["run", "shell/greet"]), "\"changed\\n\"");
    assert!(home.fails(4, &["run", "shell/count"]).contains("shell/count"));
    home.write("ibid.toml", "[tasks.greet]\nrun = []\n");
    assert!(home.fails(2, &["register"]).contains("greet"));
    home.write("ibid.toml", "[tasks.greet]\nrun = \"echo \\\"{x}\\\"\"\nparameters = [\"x\"]\n");
    assert!(home.fails(2, &["register"]).contains("quotes"));
    home.write("ibid.toml", "[tasks.greet]\nrum = [\"x\"]\n");
    assert!(home.fails(2, &["register"]).contains("rum"));
}

#[test]
fn an_attempt_that_does_not_want_to_end_writes_into_no_other() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write(
        "ibid.toml",
        "[tasks.stubborn]\nrun = \"if [ -e second ]; then sleep 1; echo SECOND; else touch second; trap '' TERM; while :; do echo FIRST; sleep 0.1; done; fi\"\nretries = 1\ntimeout = 1.5\n",
    );
    home.ok(&["register"]);
    assert_eq!(home.ok(&["run", "shell/stubborn"]), "\"SECOND\\n\"");
}
