//! The daemon is killed over and over, and nothing that was acknowledged is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ibid::blocking::Client;
use ibid::model::{BLOB_MIN_BYTES, BlobReference, ExecutionId, Id, Json, RunId, State};
use ibid::protocol::{
    BlobPut, CachePrune, Cancel, EnvCreate, GetResult, ListEnvironments, ListRuns, Prune, Rerun, RunsPrune, Scope,
    SensorStart, Show, Submit, VerifyStore,
};
use ibid_tests::worker::{REPOSITORY, Worker};
use ibid_tests::{Home, eventually};

/// How often the daemon is killed; `IBID_KILLS` kills it more often.
const KILLS: u32 = 100;
/// Programs that submit, wait and re-run all the while.
const CLIENTS: u64 = 4;

/// What the daemon has told the clients and workers.
#[derive(Default)]
struct Told {
    /// Runs by their tokens, with the argument.
    submitted: BTreeMap<String, (RunId, u64)>,
    results: BTreeMap<RunId, String>,
    rerun: BTreeSet<ExecutionId>,
    /// How often each execution was given to a worker.
    begun: BTreeMap<ExecutionId, u32>,
    /// With which checkpoint the sensor was started each time, and which was acknowledged by then.
    sensor: Vec<(u64, u64)>,
    /// Environments that were created.
    environments: BTreeSet<String>,
    /// Large values that came back as they were handed over.
    stowed: u64,
    /// Prunings that were finished, and such as the daemon was killed in.
    pruned: u64,
    interrupted: u64,
}

type Shared = Arc<Mutex<Told>>;

fn with<T>(told: &Shared, act: impl FnOnce(&mut Told) -> T) -> T {
    act(&mut told.lock().unwrap_or_else(PoisonError::into_inner))
}

fn start(token: &str, n: u64) -> Submit {
    Submit {
        arguments: vec![Json::parse(n.to_string()).unwrap()],
        token: Some(token.to_owned()),
        ..Submit::new(Scope::default(), format!("{REPOSITORY}/job"))
    }
}

/// A client: submits, reads results, runs things again; whatever fails is tried again.
fn client(home: &Home, told: &Shared, stop: &AtomicBool, number: u64) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(&home.socket()) else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        loop {
            let n = turn % 17;
            let token = format!("{number}-{turn}");
            let Ok(submitted) = client.call(start(&token, n)) else { break };
            let before = with(told, |told| told.submitted.insert(token, (submitted.run, n)));
            assert!(before.is_none_or(|(run, _)| run == submitted.run), "one token, two runs");
            if turn % 3 == 0 {
                let id = Id::Run(submitted.run);
                let Ok(outcome) = client.call(GetResult { id, wait: true, caller: None }) else { break };
                let value = outcome.value.map(|value| value.to_string()).unwrap_or_default();
                with(told, |told| told.results.insert(submitted.run, value));
                if turn % 30 == 0 {
                    let environment = format!("e{number}-{turn}");
                    let scope = Scope { environment: environment.clone(), ..Scope::default() };
                    let Ok(_) = client.call(EnvCreate { scope, base: Some("default".to_owned()) }) else { break };
                    with(told, |told| told.environments.insert(environment));
                }
                if turn % 9 == 0 {
                    let Ok(rerunning) = client.call(Rerun { id, below: false }) else { break };
                    with(told, |told| told.rerun.insert(rerunning.execution));
                }
            }
            turn += 1;
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Hands over large values and asks for them back.
fn stow(home: &Home, told: &Shared, stop: &AtomicBool) {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(&home.socket()) else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        // A value may be lost while it is on its way: then all of it is said again.
        while stow_one(home, &mut client, turn).is_ok() {
            with(told, |told| told.stowed += 1);
            turn += 1;
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

fn stow_one(home: &Home, client: &mut Client, turn: u64) -> Result<(), Box<dyn std::error::Error>> {
    let text = format!("\"{turn} {}\"", "x".repeat(BLOB_MIN_BYTES as usize));
    let name = format!("value-stow-{turn}");
    std::fs::write(home.data().join("spool").join(&name), &text)?;
    let blob = client.call(BlobPut { name })?;
    let reference = BlobReference::new(blob.hash, blob.size, blob.path);
    let submit = Submit {
        arguments: vec![Json::from_serialize(&reference)?],
        token: Some(format!("stow-{turn}")),
        ..Submit::new(Scope::default(), format!("{REPOSITORY}/stow"))
    };
    let submitted = client.call(submit)?;
    let outcome = client.call(GetResult { id: Id::Run(submitted.run), wait: true, caller: None })?;
    let back = outcome.value.as_ref().and_then(BlobReference::read);
    let back = back.unwrap_or_else(|| panic!("{}: {outcome:?}", submitted.run));
    let read = std::fs::read_to_string(&back.path).unwrap_or_else(|error| panic!("{}: {error}", back.path));
    assert!(read == text, "{} is not what was handed over", back.path);
    Ok(())
}

fn stowed(keep_latest: u32) -> Prune {
    Prune {
        scope: None,
        namespace: Some(format!("{REPOSITORY}:stow")),
        older_than: None,
        max_size: None,
        keep_latest: Some(keep_latest),
        dry_run: false,
    }
}

/// Prunes large values over and over; each time the store is compacted, too.
fn prune(home: &Home, told: &Shared, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(&home.socket()) else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let done = client.call(RunsPrune(stowed(5))).and_then(|_| client.call(CachePrune(stowed(5))));
            with(told, |told| if done.is_ok() { told.pruned += 1 } else { told.interrupted += 1 });
            if done.is_err() {
                break;
            }
        }
    }
}

/// The files of large values; whoever looks next finds them old.
fn files(home: &Home) -> usize {
    let mut count = 0;
    for part in std::fs::read_dir(home.data().join("blobs")).unwrap() {
        for file in std::fs::read_dir(part.unwrap().path()).unwrap() {
            let file = std::fs::File::open(file.unwrap().path()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
            count += 1;
        }
    }
    count
}

fn work(home: &Home, told: &Shared, stop: &AtomicBool) {
    let acknowledged = Arc::new(AtomicU64::new(0));
    while !stop.load(Ordering::Relaxed) {
        match Worker::attach(&home.socket(), 8, 1_000_000) {
            Ok(mut worker) => {
                worker.acknowledged = acknowledged.clone();
                let _lost = worker.work(|execute| {
                    with(told, |told| {
                        *told.begun.entry(execute.execution).or_default() += 1;
                        if execute.target == "watch" {
                            let from = execute.arguments[0].read().unwrap();
                            told.sensor.push((from, acknowledged.load(Ordering::SeqCst)));
                        }
                    });
                });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[test]
fn a_hundred_kills_lose_nothing_that_was_acknowledged_and_run_nothing_twice() {
    let kills = std::env::var("IBID_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let home = Home::new();
    let told: Shared = Arc::default();
    let stop = AtomicBool::new(false);
    let mut daemon = home.daemon();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    std::thread::scope(|scope| {
        scope.spawn(|| work(&home, &told, &stop));
        eventually("the worker is there", Duration::from_secs(10), || {
            let mut client = Client::connect(&home.socket()).ok()?;
            let list = client.call(ibid::protocol::ListTargets { scope: Scope::default() }).ok()?;
            (!list.targets.is_empty()).then_some(())
        });
        let mut starter = Client::connect(&home.socket()).unwrap();
        let arguments = vec![Json::parse("0").unwrap()];
        let target = format!("{REPOSITORY}/watch");
        let start = SensorStart { scope: Scope::default(), target, arguments, named: Vec::new(), fresh: false };
        starter.call(start).unwrap();
        for number in 0..CLIENTS {
            let (home, told, stop) = (&home, &told, &stop);
            scope.spawn(move || client(home, told, stop, number));
        }
        scope.spawn(|| stow(&home, &told, &stop));
        scope.spawn(|| prune(&home, &told, &stop));
        for _ in 0..kills {
            // xorshift: any moment within the first 60 ms of service.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            std::thread::sleep(Duration::from_micros(seed % 60_000));
            daemon.kill();
            daemon = home.daemon();
        }
        // The workload finishes.
        let mut reader = Client::connect(&home.socket()).unwrap();
        let runs: Vec<_> = with(&told, |told| told.submitted.values().copied().collect());
        let deadline = Instant::now() + Duration::from_secs(120);
        for (run, n) in &runs {
            assert!(Instant::now() < deadline, "the workload does not finish");
            let outcome = reader.call(GetResult { id: Id::Run(*run), wait: true, caller: None }).unwrap();
            assert_eq!(outcome.state, State::Succeeded, "{run}: {outcome:?}");
            assert_eq!(outcome.value.unwrap().to_string(), n.to_string(), "{run}");
        }
        stop.store(true, Ordering::Relaxed);
        // Whoever waits for an answer is let go.
        daemon.kill();
    });
    let _daemon = home.daemon();
    let mut reader = Client::connect(&home.socket()).unwrap();
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(told.submitted.len() > 200, "only {} runs were submitted", told.submitted.len());
    for (token, (run, n)) in &told.submitted {
        let again = reader.call(start(token, *n)).unwrap();
        assert_eq!((again.run, again.repeated), (*run, true), "the submission {token} was lost");
    }
    for (run, value) in &told.results {
        // The last kill may have left a re-run of it in the queue; what was told before must still be there.
        let shown = reader.call(Show { id: Id::Step(run.root()) }).unwrap();
        let mut results = shown.step.attempts.iter().filter_map(|attempt| attempt.result.as_ref()?.value.as_ref());
        assert!(results.any(|result| result.to_string() == *value), "the result of {run} was lost");
    }
    for execution in &told.rerun {
        let shown = reader.call(Show { id: Id::Execution(*execution) });
        assert!(shown.is_ok(), "the re-run {execution} was lost: {shown:?}");
    }
    let twice: Vec<_> = told.begun.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "these were given to a worker twice: {twice:?}");
    // Each part was made again only where a kill had interrupted it, never because its result was forgotten.
    let mut successes: BTreeMap<String, Vec<ExecutionId>> = BTreeMap::new();
    for execution in told.begun.keys().filter(|execution| execution.step.step > 1) {
        let shown = reader.call(Show { id: Id::Execution(*execution) }).unwrap();
        if shown.execution.state == State::Succeeded {
            let key = shown.step.key.clone().unwrap_or_default();
            successes.entry(key).or_default().push(*execution);
        }
    }
    let verified = reader.call(VerifyStore {}).unwrap();
    assert_eq!(verified.damaged, 0, "{verified:?}");
    // What the last kill interrupted waits for a worker that has gone: unfinished work is never pruned.
    for state in [State::Queued, State::Running] {
        let target = Some(format!("{REPOSITORY}/stow"));
        let open = ListRuns { scope: None, state: Some(state), target, since: None, limit: None, cursor: None };
        for run in reader.call(open).unwrap().runs {
            reader.call(Cancel { id: Id::Run(run.id), force: true }).unwrap();
        }
    }
    let left = files(&home);
    reader.call(RunsPrune(stowed(0))).unwrap();
    reader.call(CachePrune(stowed(0))).unwrap();
    assert_eq!(files(&home), 0, "files of large values stay though nothing refers to them");
    let list = reader.call(ListEnvironments {}).unwrap();
    let there: BTreeSet<_> = list.environments.into_iter().map(|one| one.environment).collect();
    assert!(told.environments.is_subset(&there), "an environment was lost");
    assert!(told.stowed > 10 && told.interrupted > 10, "{} stowed, {} interrupted", told.stowed, told.interrupted);
    assert!(told.sensor.len() > 10, "the sensor was started only {} times", told.sensor.len());
    let back: Vec<_> = told.sensor.iter().filter(|(from, acknowledged)| from < acknowledged).collect();
    assert!(back.is_empty(), "the sensor was started from before an acknowledged checkpoint: {back:?}");
    let double: Vec<_> = successes.values().filter(|executions| executions.len() > 1).collect();
    assert!(double.is_empty(), "these parts were made although there was a result: {double:?}");
    eprintln!(
        "{kills} kills: {} submissions, {} results, {} re-runs, {} executions, {} environments, {} starts of the \
         sensor, the last from {:?}; {} large values, {left} files at the end; {} prunings, {} interrupted",
        told.submitted.len(),
        told.results.len(),
        told.rerun.len(),
        told.begun.len(),
        told.environments.len(),
        told.sensor.len(),
        told.sensor.last(),
        told.stowed,
        told.pruned,
        told.interrupted
    );
}
