//! `ibid exec`: a command through the daemon is as it is without.

use std::io::BufRead as _;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ibid_tests::{Home, eventually};
use rustix::process::{Pid, Signal, kill_process};

fn run(mut command: Command, input: Option<&[u8]>) -> Output {
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A command that does not read all of it closes its end.
        let _closed = stdin.write_all(input);
    }
    child.wait_with_output().unwrap()
}

fn directly(home: &Home, words: &[&str], input: Option<&[u8]>) -> Output {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(home.path());
    run(command, input)
}

fn through(home: &Home, options: &[&str], words: &[&str], input: Option<&[u8]>) -> Output {
    run(home.command(&[&["exec"], options, &["--"], words].concat()), input)
}

/// A shell's exit code of a process that has ended.
fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0))
}

#[track_caller]
fn same(what: &str, one: &Output, other: &Output) {
    assert_eq!(code(one), code(other), "{what}: {}", String::from_utf8_lossy(&other.stderr));
    assert!(one.stdout == other.stdout, "{what}: {} and {} bytes", one.stdout.len(), other.stdout.len());
    assert!(one.stderr == other.stderr, "{what}: {:?}", String::from_utf8_lossy(&other.stderr));
}

/// A name, a command line, and what it reads.
type Case<'a> = (&'a str, &'a [&'a str], Option<&'a [u8]>);

#[test]
fn a_command_is_the_same_byte_for_byte_directly_first_and_from_the_cache() {
    let home = Home::new();
    let _daemon = home.daemon();
    let binary = "printf '\\000\\377\\200a\\n\\033[1m'; printf 'e\\303' >&2; sleep 0.05; printf '\\244' >&2";
    let matrix: &[Case] = &[
        ("both streams and a code", &["sh", "-c", "echo out; echo err >&2; exit 3"], None),
        ("success", &["sh", "-c", "echo out; echo err >&2"], None),
        ("no output", &["true"], None),
        ("only a code", &["false"], None),
        ("no line end", &["printf", "a"], None),
        ("binary output", &["sh", "-c", binary], None),
        ("a slow trickle", &["sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done"], None),
        ("3 MiB of noise", &["sh", "-c", "yes 'abc\u{e4}\u{1f600}' | head -c 3000000"], None),
        ("killed by a signal", &["sh", "-c", "echo before; kill -9 $$"], None),
        ("terminated", &["sh", "-c", "kill -TERM $$"], None),
        ("closes its output", &["sh", "-c", "exec >&- 2>&-; exit 4"], None),
        ("reads its input", &["cat"], Some(b"in\0put\xff")),
        ("reads part of its input", &["head", "-c", "3"], Some(b"abcdef")),
        ("does not read its input", &["echo", "x"], Some(b"ignored")),
        ("long input", &["wc", "-c"], Some(&[b'x'; 300_000])),
        ("quotes and spaces", &["printf", "%s|", "a b", "", "'", "\"", "$HOME", "*", "-n", "--cache"], None),
        ("leaves a process behind", &["sh", "-c", "sleep 3 & echo $! > left; echo started"], None),
    ];
    for (what, words, input) in matrix {
        let expected = directly(&home, words, *input);
        if *what == "leaves a process behind" {
            end_left_process(&home);
        }
        for options in [&[][..], &["--cache"], &["--cache"], &["--cache"], &["--cache", "--cache-failures", "-k", what]]
        {
            let begun = Instant::now();
            same(&format!("{what} {options:?}"), &expected, &through(&home, options, words, *input));
            if *what == "leaves a process behind" {
                assert!(begun.elapsed() < Duration::from_millis(2500), "it was waited for");
                end_left_process(&home);
            }
        }
    }
}

/// Ends what a command has left behind, if it has.
fn end_left_process(home: &Home) {
    let Ok(text) = std::fs::read_to_string(home.path().join("left")) else { return };
    if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
        // A replayed command leaves nothing.
        let _gone = kill_process(pid, Signal::KILL);
    }
}

#[test]
fn what_cannot_be_run_ends_as_in_a_shell() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write("plain", "echo hello\n");
    for options in [&[][..], &["--cache"], &["--cache"]] {
        let output = through(&home, options, &["no-such-command-at-all"], None);
        assert_eq!(code(&output), 127);
        assert!(String::from_utf8_lossy(&output.stderr).contains("not found"));
        let output = through(&home, options, &["./plain"], None);
        assert_eq!(code(&output), 126);
        assert!(String::from_utf8_lossy(&output.stderr).contains("permission denied"));
    }
    // What is ibid's own fault is 125, and said.
    for wrong in [
        &["exec", "--bogus", "--", "true"][..],
        &["exec"],
        &["exec", "--key", "a", "--", "true"],
        &["-p", "nowhere", "exec", "--", "true"],
    ] {
        assert!(!home.fails(125, wrong).is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_hundred_mebibytes_pass_and_come_again() {
    let home = Home::new();
    let _daemon = home.daemon();
    let words = ["sh", "-c", "head -c 104857600 /dev/zero | tr '\\000' 'x'"];
    for options in [["--cache"], ["--cache"]] {
        let output = through(&home, &options, &words, None);
        assert_eq!(code(&output), 0);
        assert_eq!(output.stdout.len(), 104_857_600);
        assert!(output.stdout.iter().all(|byte| *byte == b'x'));
    }
    assert_eq!(home.why("R2"), "hit");
}

#[test]
fn fifty_shells_with_the_same_command_run_it_once() {
    let home = Home::new();
    let _daemon = home.daemon();
    let line = "echo ran >> marks; echo one; sleep 1; echo two >&2; echo three";
    let start = || {
        let mut command = home.command(&["exec", "--cache", "--", "sh", "-c", line]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let shells: Vec<Child> = (0..50).map(|_| start()).collect();
    for shell in shells {
        let output = shell.wait_with_output().unwrap();
        assert_eq!(code(&output), 0);
        assert_eq!(output.stdout, b"one\nthree\n");
        assert_eq!(output.stderr, b"two\n");
    }
    assert_eq!(home.marks(), ["ran"]);
}

#[test]
fn followers_see_what_is_written_from_the_beginning_and_share_a_failure() {
    let home = Home::new();
    let _daemon = home.daemon();
    let line = "echo first; while [ ! -e go ]; do sleep 0.01; done; echo last; exit 7";
    let start = || {
        let mut command = home.command(&["exec", "--cache", "--", "sh", "-c", line]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let read_line = |child: &mut Child| {
        let mut byte = [0];
        let mut text = String::new();
        while std::io::Read::read(child.stdout.as_mut().unwrap(), &mut byte).unwrap() == 1 && byte[0] != b'\n' {
            text.push(char::from(byte[0]));
        }
        text
    };
    let mut leader = start();
    assert_eq!(read_line(&mut leader), "first");
    let mut follower = start();
    // Before the command has ended.
    assert_eq!(read_line(&mut follower), "first");
    home.write("go", "");
    for child in [leader, follower] {
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), output.stdout.as_slice()), (7, b"last\n".as_slice()));
    }
    assert_eq!(home.why("R2"), "linked");
    // A failure is nobody's later result.
    assert_eq!(code(&through(&home, &["--cache"], &["sh", "-c", line], None)), 7);
    assert_eq!(home.why("R3"), "last_failed");
}

fn interrupt(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_signal_reaches_the_command_as_if_it_were_run_directly() {
    let home = Home::new();
    let _daemon = home.daemon();
    let start = |line: &str| {
        std::fs::remove_file(home.path().join("marks")).ok();
        let mut command = home.command(&["exec", "--cache", "--", "sh", "-c", line]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        eventually("it runs", Duration::from_secs(10), || (!home.marks().is_empty()).then_some(()));
        child
    };
    // It dies of it, and so does its stand-in, as a shell's loop expects.
    let child = start("echo begun > marks; sleep 60");
    interrupt(&child, Signal::INT);
    assert_eq!(child.wait_with_output().unwrap().status.signal(), Some(2));
    // It may handle it, and write a last word.
    let child = start("trap 'echo last words; exit 5' INT; echo begun > marks; while :; do sleep 0.02; done");
    interrupt(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), output.stdout.as_slice()), (5, b"last words\n".as_slice()));
    let child = start("echo begun > marks; sleep 60");
    interrupt(&child, Signal::TERM);
    assert_eq!(child.wait_with_output().unwrap().status.signal(), Some(15));
    // None of them is a result, even one that ended well.
    let line = "trap 'exit 0' INT; echo begun >> marks; while [ ! -e go ]; do sleep 0.02; done";
    let child = start(line);
    interrupt(&child, Signal::INT);
    assert_eq!(code(&child.wait_with_output().unwrap()), 0);
    home.write("go", "");
    assert_eq!(code(&through(&home, &["--cache"], &["sh", "-c", line], None)), 0);
    assert_eq!(home.marks().len(), 2);
}

#[test]
fn a_command_is_stopped_with_its_last_client_and_only_then() {
    let home = Home::new();
    let _daemon = home.daemon();
    let line = "echo $$ > pid; while [ ! -e go ]; do sleep 0.02; done; echo done";
    let start = || {
        let mut command = home.command(&["exec", "--cache", "--", "sh", "-c", line]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let runs = || {
        let pid = std::fs::read_to_string(home.path().join("pid")).ok()?.trim().parse().ok()?;
        Some(rustix::process::test_kill_process(Pid::from_raw(pid)?).is_ok())
    };
    let mut first = start();
    eventually("it runs", Duration::from_secs(10), || runs().filter(|runs| *runs));
    let second = start();
    eventually("the second has joined", Duration::from_secs(10), || {
        (home.json(&["runs"]).as_object()?["runs"].as_array()?.len() == 2).then_some(())
    });
    // The first goes; the second still wants it.
    first.kill().unwrap();
    first.wait().unwrap();
    eventually("its client is missed", Duration::from_secs(10), || {
        (home.json(&["show", "R1"])["execution"]["withdrawn"] == true).then_some(())
    });
    assert_eq!(runs(), Some(true));
    home.write("go", "");
    let output = second.wait_with_output().unwrap();
    assert_eq!((code(&output), output.stdout.as_slice()), (0, b"done\n".as_slice()));
    std::fs::remove_file(home.path().join("go")).unwrap();
    // Alone, it ends with its client.
    let mut alone = home.command(&["exec", "--", "sh", "-c", line]).stdout(Stdio::null()).spawn().unwrap();
    let old = std::fs::read_to_string(home.path().join("pid")).unwrap();
    eventually("it runs", Duration::from_secs(10), || {
        (std::fs::read_to_string(home.path().join("pid")).ok()? != old).then_some(())
    });
    alone.kill().unwrap();
    alone.wait().unwrap();
    eventually("it has ended", Duration::from_secs(10), || (runs() == Some(false)).then_some(()));
    assert_eq!(home.json(&["show", "R3"])["execution"]["state"], "cancelled");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_like_a_pipe() {
    let home = Home::new();
    let _daemon = home.daemon();
    let mut child = home.command(&["exec", "--", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().signal(), Some(13));
    eventually("it has ended", Duration::from_secs(10), || {
        (home.json(&["show", "R1"])["execution"]["state"] == "cancelled").then_some(())
    });
}

#[test]
fn the_key_is_the_line_the_directory_the_named_variables_the_inputs_and_the_input() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write("a.txt", "one");
    std::fs::create_dir(home.path().join("below")).unwrap();
    let kind = |options: &[&str], words: &[&str], variable: &str, directory: &str, input: Option<&[u8]>| {
        let mut command = home.command(&[&["exec", "--cache"], options, &["--"], words].concat());
        command.env("FLAVOUR", variable).current_dir(home.path().join(directory));
        assert_eq!(code(&run(command, input)), 0);
        let newest = home.json(&["runs", "--limit", "1"])["runs"][0]["id"].as_str().unwrap().to_owned();
        home.why(&newest)
    };
    let cat: &[&str] = &["cat"];
    assert_eq!(kind(&[], &["true"], "a", "", None), "no_match");
    assert_eq!(kind(&[], &["true"], "b", "", None), "hit");
    assert_eq!(kind(&[], &["true", "x"], "b", "", None), "no_match");
    assert_eq!(kind(&[], &["true"], "b", "below", None), "no_match");
    let named = ["--env", "FLAVOUR"];
    assert_eq!(kind(&named, &["true"], "a", "", None), "no_match");
    assert_eq!(kind(&named, &["true"], "a", "", None), "hit");
    assert_eq!(kind(&named, &["true"], "b", "", None), "no_match");
    let input = ["--input", "*.txt"];
    assert_eq!(kind(&input, &["true"], "", "", None), "no_match");
    assert_eq!(kind(&input, &["true"], "", "", None), "hit");
    home.write("a.txt", "two");
    assert_eq!(kind(&input, &["true"], "", "", None), "no_match");
    home.write("a.txt", "one");
    assert_eq!(kind(&input, &["true"], "", "", None), "hit");
    assert_eq!(kind(&[], cat, "", "", Some(b"x")), "no_match");
    assert_eq!(kind(&[], cat, "", "", Some(b"y")), "no_match");
    assert_eq!(kind(&[], cat, "", "", Some(b"x")), "hit");
    assert_eq!(kind(&["-n"], cat, "", "", Some(b"x")), "no_match");
    // A key of one's own stands for all of that.
    assert_eq!(kind(&["-k", "mine"], &["true"], "", "", None), "no_match");
    assert_eq!(kind(&["-k", "mine"], &["true", "other"], "", "below", None), "hit");
    assert_eq!(kind(&["-k", "mine", "--namespace", "n"], &["true"], "", "", None), "no_match");
    // The nearest earlier call shows which part differs.
    let why = home.ok(&["why", "R10"]);
    assert!(why.contains("inputs"), "{why}");
}

#[test]
fn ages_forcing_and_forgetting_hold_for_answers_that_are_found_without_the_daemon() {
    let home = Home::new();
    let _daemon = home.daemon();
    let line = "echo ran >> marks; wc -l < marks";
    let go = |cache: &str| {
        let output = through(&home, &[cache], &["sh", "-c", line], None);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    // The third is found in the spool directory, where the second had it put.
    assert_eq!([go("--cache"), go("--cache"), go("--cache"), go("--cache=1h")], ["1", "1", "1", "1"]);
    assert_eq!(home.json(&["runs"])["runs"].as_array().unwrap().len(), 4);
    assert_eq!([home.why("R3"), home.why("R4")], ["hit", "hit"]);
    // Too old for this one, who makes a new one for all.
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!([go("--cache=0.01"), go("--cache"), go("--cache")], ["2", "2", "2"]);
    // A re-run of a hit that was taken without asking runs as its source did.
    home.ok(&["rerun", "R3", "--wait"]);
    assert_eq!([go("--cache"), go("--cache"), go("--cache")], ["3", "3", "3"]);
    home.ok(&["cache", "forget", "R1"]);
    assert_eq!([go("--cache"), go("--cache"), go("--cache")], ["4", "4", "4"]);
    // Notes outlive the daemon that published.
    drop(_daemon);
    assert_eq!(go("--cache"), "4");
    let before = 13;
    let _daemon = home.daemon();
    assert_eq!(home.json(&["runs", "--limit", "1000"])["runs"].as_array().unwrap().len(), before + 1);
}

#[test]
fn a_command_inside_of_a_task_is_its_child() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register(
        "outer",
        "import os, subprocess\nfrom ibid import workflow\n\n@workflow()\ndef go():\n    command = [os.environ['IBID'], 'exec', '--cache', '--', 'echo', 'hi']\n    return [subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout for _ in range(2)]\n",
    );
    let ibid = ibid_tests::binaries().join("ibid");
    home.write("ibid.toml", "[repositories.outer]\npython = \"outer\"\nconcurrency = 1\n");
    let mut register = home.command(&["register"]);
    assert!(register.env("IBID", ibid).status().unwrap().success());
    assert_eq!(home.ok(&["run", "outer/go"]), r#"["hi\n","hi\n"]"#);
    let steps = home.json(&["show", "R1"]);
    let targets: Vec<_> = steps["children"].as_array().unwrap().iter().map(|step| step["target"].clone()).collect();
    assert_eq!(targets, ["exec/echo", "exec/echo"]);
    assert_eq!(home.why("R1:3"), "hit");
}

#[test]
fn a_killed_daemon_takes_its_commands_with_it_and_the_client_says_so() {
    let home = Home::new();
    let daemon = home.daemon();
    let child = home.command(&["exec", "--", "sh", "-c", "echo $$; sleep 60"]);
    let mut child = { child }.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What it has written has come through: the client knows what it waits for.
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
    daemon.kill();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 125);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("run it again"), "{told}");
    eventually("it has ended", Duration::from_secs(10), || {
        rustix::process::test_kill_process(pid).is_err().then_some(())
    });
}

#[test]
fn a_kept_failure_is_a_result_only_for_those_who_want_failures() {
    let home = Home::new();
    let _daemon = home.daemon();
    let words = ["sh", "-c", "echo ran >> marks; echo fails; exit 7"];
    let keeping = ["--cache", "--cache-failures"];
    for _ in 0..3 {
        let output = through(&home, &keeping, &words, None);
        assert_eq!((code(&output), output.stdout.as_slice()), (7, b"fails\n".as_slice()));
    }
    assert_eq!(home.marks().len(), 1);
    for ran in 2..=4 {
        assert_eq!(code(&through(&home, &["--cache"], &words, None)), 7);
        assert_eq!(home.marks().len(), ran);
    }
}

#[test]
fn what_was_made_of_changing_inputs_is_nobody_elses_result() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.write("input", "one");
    let words = ["sh", "-c", "echo ran >> marks; while [ ! -e go ]; do sleep 0.02; done; cat input"];
    let options = ["--cache", "--input", "input"];
    let line = [&["exec"], &options[..], &["--"], &words].concat();
    let child = home.command(&line).stdout(Stdio::piped()).spawn().unwrap();
    eventually("it runs", Duration::from_secs(10), || (!home.marks().is_empty()).then_some(()));
    home.write("input", "two");
    home.write("go", "");
    assert_eq!(child.wait_with_output().unwrap().stdout, b"two");
    home.write("input", "one");
    assert_eq!(through(&home, &options, &words, None).stdout, b"one");
    assert_eq!(through(&home, &options, &words, None).stdout, b"one");
    assert_eq!(home.marks().len(), 2);
}

#[test]
fn a_large_output_of_a_failing_command_is_shown_whole() {
    let home = Home::new();
    let _daemon = home.daemon();
    let words = ["sh", "-c", "head -c 500000 /dev/zero | tr '\\000' y; exit 4"];
    for _ in 0..5 {
        let output = through(&home, &["--cache"], &words, None);
        assert_eq!((code(&output), output.stdout.len()), (4, 500_000));
    }
    let kept = home.json(&["cache", "prune", "--older-than", "0", "--dry-run"]);
    assert_eq!(kept["values"], 0, "{kept}");
}
