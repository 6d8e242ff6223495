//! Files of the store that were damaged: refused or contained, never a wrong answer without a word.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use ibid_daemon::store::{Store, StoreError};
use ibid_tests::Home;
use rustix::process::Signal;

const MODULE: &str = r#"
from ibid import task, workflow
from marks import mark

@task
def part(n):
    mark(f"part {n}")
    return {"n": n, "text": "x" * (300 * n)}

@task
def large(n):
    return "y" * (100_000 + n)

@workflow
def whole(n):
    print("whole", n)
    return [part(i)["n"] for i in range(n)] + [len(large(n))]
"#;

/// How many damaged copies are looked at; `IBID_DAMAGES` looks at more.
const COPIES: u64 = 60;

/// Every result in a store, by the execution that made it; what does not read is not there.
fn results(store: &Store) -> BTreeMap<String, String> {
    let view = store.view();
    let mut found = BTreeMap::new();
    let Ok(runs) = view.runs(None, 1000, |_| true) else { return found };
    for run in runs.items {
        for step in view.steps(run.id, 0, 1000).unwrap_or_default() {
            for (number, attempt) in (1u32..).zip(&step.attempts) {
                let Some(result) = &attempt.result else { continue };
                if let Ok(Some(text)) = view.whole(result) {
                    found.insert(step.id.attempt(number).to_string(), text.to_string());
                }
            }
        }
    }
    found
}

/// A store with tables and a journal, closed, and what it holds.
fn filled(home: &Home) -> BTreeMap<String, String> {
    for part in 0..2 {
        let mut daemon = home.daemon();
        home.register("m", MODULE);
        for n in 1..6 {
            home.ok(&["run", "m/whole", &(part * 5 + n).to_string()]);
        }
        daemon.signal(Signal::TERM);
        assert!(daemon.wait().success());
        if part == 0 {
            // So that there are tables, too.
            Store::open(&home.data()).unwrap().compact().unwrap();
        }
    }
    let store = Store::open(&home.data()).unwrap();
    let verified = store.view().verify().report;
    assert_eq!((verified.damaged, &verified.findings), (0, &Vec::new()));
    assert!(verified.references > 20 && verified.values > 15, "{verified:?}");
    let all = results(&store);
    assert!(all.len() > 40, "{}", all.len());
    store.sync().unwrap();
    all
}

/// All files below a directory that hold anything, by the place in it.
fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if entry.metadata().unwrap().len() > 0 {
            all.push((path.clone(), held(&path)));
        }
    }
    all.sort();
    all
}

/// Bytes up to the last one that is not zero: a journal is mostly a hole.
fn held(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-r", "--sparse=always"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// The next of a row of numbers that look random and are always the same.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn flipped_bits_and_cut_files_are_refused_or_found_and_never_change_a_result() {
    let home = Home::new();
    let whole = filled(&home);
    let files = files(&home.data().join("store"));
    let mut seed = 0x2545_f491_4f6c_dd1d;
    let mut came_to: BTreeMap<&str, u32> = BTreeMap::new();
    let copies = std::env::var("IBID_DAMAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(COPIES);
    for turn in 0..copies {
        let copied = tempfile::tempdir_in(home.path()).unwrap();
        let data = copied.path().join("data");
        copy(&home.data(), &data);
        // Journals hold what is not in tables yet: half of the damage falls there.
        let is_journal = |path: &Path| path.extension().is_some_and(|end| end == "jnl");
        let journals: Vec<_> = files.iter().filter(|(path, _)| is_journal(path)).collect();
        let (path, length) = if turn % 2 == 0 {
            journals[next(&mut seed) as usize % journals.len()]
        } else {
            &files[next(&mut seed) as usize % files.len()]
        };
        let path = data.join(path.strip_prefix(home.data()).unwrap());
        let at = next(&mut seed) % length.max(&1);
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let how = if turn % 5 == 4 {
            file.set_len(at).unwrap();
            "cut"
        } else {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ (1 << (next(&mut seed) % 8))], at).unwrap();
            "flipped"
        };
        let what = format!("{} {how} at {at} of {length}", path.display());
        let name = match Store::open(&data) {
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("damaged") || message.contains("lost"), "{what}: {message}");
                if matches!(error, StoreError::Lost { .. }) { "lost" } else { "damaged" }
            }
            Ok(store) => {
                let verified = store.view().verify().report;
                let found = results(&store);
                let missing = whole.iter().filter(|(execution, _)| !found.contains_key(*execution)).count();
                for (execution, text) in &found {
                    assert_eq!(whole.get(execution), Some(text), "{what}: {execution} has changed");
                }
                assert!(missing == 0 || verified.damaged > 0, "{what}: {missing} results are gone without a word");
                if verified.damaged > 0 { "found" } else { "harmless" }
            }
        };
        *came_to.entry(name).or_default() += 1;
    }
    assert!(came_to.contains_key("lost") && came_to.contains_key("damaged"), "{came_to:?}");
    eprintln!("{copies} damaged stores of {} results: {came_to:?}", whole.len());
}
