//! The finer rules, one at a time, in virtual time.

use ibid::model::{
    Argument, Cache, CallOptions, Decision, Defer, ExecutionId, Failure, Id, Json, Link, Memo, Retries, State, StepId,
    Wait,
};
use ibid_daemon::engine::{Call, Effect, Outcome, Refusal, Start, Turn, argument, result};

use crate::world::{REPOSITORY, World};

/// A world with names for what tests do.
struct Scene {
    world: World,
    effects: Vec<Effect>,
}

fn value(text: &str) -> Argument {
    argument(Json::parse(text).unwrap()).unwrap().0
}

fn cached(cache: Cache) -> CallOptions {
    CallOptions { cache, ..CallOptions::default() }
}

impl Scene {
    fn new() -> Self {
        Self { world: World::new(1), effects: Vec::new() }
    }

    fn turn<T>(&mut self, act: impl FnOnce(&mut ibid_daemon::engine::Engine, Turn<'_>) -> T) -> T {
        let turn = Turn { now: self.world.now, past: &self.world.disk };
        let done = act(&mut self.world.engine, turn);
        self.effects.extend(self.world.engine.take_effects());
        self.world.commit();
        done
    }

    fn pass(&mut self, millis: i64) {
        self.world.now += millis;
        self.turn(|engine, t| engine.tick(t));
    }

    /// A running workflow to call from.
    fn caller(&mut self) -> ExecutionId {
        let start = Start {
            environment: 1,
            target: "m/w".to_owned(),
            arguments: vec![value("0")],
            options: CallOptions::default(),
            token: None,
            idempotency_key: None,
            command: None,
            taken: None,
        };
        let run = self.turn(|engine, t| engine.start(t, start)).unwrap().run;
        let assigned = self.assign().unwrap();
        assert_eq!(assigned.step, run.root());
        assigned
    }

    fn call(&mut self, caller: ExecutionId, target: &str, argument: Argument, options: CallOptions) -> StepId {
        let call = Call { target: target.to_owned(), arguments: vec![argument], options, group: None, command: None };
        self.turn(|engine, t| engine.call(t, caller, vec![call])).unwrap()[0].step
    }

    fn assign(&mut self) -> Option<ExecutionId> {
        let key = (1, REPOSITORY.to_owned());
        self.turn(|engine, t| engine.assign(t, &key, 1)).map(|assignment| assignment.execution)
    }

    fn complete(&mut self, execution: ExecutionId, text: &str) {
        let (stored, _) = result(Json::parse(text).unwrap()).unwrap();
        assert!(self.turn(|engine, t| engine.complete(t, execution, stored)));
    }

    fn fail(&mut self, execution: ExecutionId) {
        assert!(self.turn(|engine, t| engine.fail(t, execution, Failure::new("E", "test"))));
    }

    fn newest(&self, step: StepId) -> (State, Option<Link>, Decision) {
        let steps = self.world.steps();
        let attempt = steps[&step].attempts.last().unwrap();
        (attempt.state(), attempt.link, attempt.decision.clone())
    }
}

#[test]
fn age_zero_takes_no_finished_result_but_joins_an_unfinished_one() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let first = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    let joined = scene.call(caller, "m/a", value("1"), cached(Cache::MaxAge(0)));
    assert_eq!(scene.newest(joined).0, State::Linked);
    let running = scene.assign().unwrap();
    assert_eq!(running.step, first);
    scene.complete(running, "5");
    assert_eq!(scene.newest(joined).0, State::Cached);
    let again = scene.call(caller, "m/a", value("1"), cached(Cache::MaxAge(0)));
    assert_eq!(scene.newest(again).0, State::Queued);
}

#[test]
fn a_follower_that_is_due_earlier_pulls_a_delayed_leader_forward() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let options = CallOptions { delay: 60_000, ..cached(Cache::On) };
    let leader = scene.call(caller, "m/a", value("1"), options);
    assert_eq!(scene.assign(), None);
    scene.call(caller, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.assign().map(|execution| execution.step), Some(leader));
}

#[test]
fn a_retrys_back_off_is_not_shortened_by_a_follower() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let retries = Retries { limit: 1, delay_min: 60_000, delay_max: 60_000 };
    scene.call(caller, "m/a", value("1"), CallOptions { retries, ..cached(Cache::On) });
    let first = scene.assign().unwrap();
    scene.fail(first);
    let follower = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(follower).1, Some(Link::Leader(first.step.attempt(2))));
    assert_eq!(scene.assign(), None);
    scene.pass(60_000);
    assert_eq!(scene.assign(), Some(first.step.attempt(2)));
}

#[test]
fn a_failed_re_run_falls_back_to_the_latest_success() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let step = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    let first = scene.assign().unwrap();
    scene.complete(first, "5");
    let forced = scene.turn(|engine, t| engine.rerun(t, step, false)).unwrap();
    let joined = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(joined).1, Some(Link::Leader(forced)));
    assert_eq!(scene.assign(), Some(forced));
    scene.fail(forced);
    assert_eq!(scene.newest(joined).0, State::Failed);
    let later = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(later).1, Some(Link::Source(first)));
}

#[test]
fn a_wait_in_a_circle_undoes_the_link_that_closed_it() {
    let mut scene = Scene::new();
    let one = scene.caller();
    let two = scene.caller();
    let of_one = scene.call(one, "m/a", value("1"), cached(Cache::On));
    // `a(1)` runs and joins `b(2)`, which runs below the other workflow and joins `a(1)`.
    let a = scene.assign().unwrap();
    assert_eq!(a.step, of_one);
    scene.turn(|engine, t| engine.wait(t, one, 1, of_one)).unwrap();
    let of_two = scene.call(two, "m/b", value("2"), cached(Cache::On));
    scene.turn(|engine, t| engine.wait(t, two, 2, of_two)).unwrap();
    let b = scene.assign().unwrap();
    assert_eq!(b.step, of_two);
    let inner_a = scene.call(a, "m/b", value("2"), cached(Cache::On));
    assert_eq!(scene.newest(inner_a).1, Some(Link::Leader(b)));
    scene.turn(|engine, t| engine.wait(t, a, 3, inner_a)).unwrap();
    let inner_b = scene.call(b, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(inner_b).1, Some(Link::Leader(a)));
    scene.turn(|engine, t| engine.wait(t, b, 4, inner_b)).unwrap();
    let (state, _, decision) = scene.newest(inner_b);
    assert_eq!((state, decision), (State::Queued, Decision::WouldWaitForItself { leader: a }));
}

#[test]
fn a_circle_without_links_is_refused_with_its_members() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let callee = scene.call(caller, "m/a", value("1"), CallOptions::default());
    let running = scene.assign().unwrap();
    scene.turn(|engine, t| engine.wait(t, caller, 1, callee)).unwrap();
    let refused = scene.turn(|engine, t| engine.wait(t, running, 2, caller.step)).unwrap_err();
    assert!(matches!(&refused, Refusal::Deadlock { .. }), "{refused}");
    assert!(refused.to_string().contains(&running.to_string()), "{refused}");
}

#[test]
fn a_call_never_joins_one_of_its_own_callers() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    scene.call(caller, "m/a", value("1"), cached(Cache::On));
    let outer = scene.assign().unwrap();
    let inner = scene.call(outer, "m/a", value("1"), cached(Cache::On));
    let (state, _, decision) = scene.newest(inner);
    assert_eq!(state, State::Queued);
    assert_eq!(decision.kind(), "own_ancestor");
}

#[test]
fn what_others_want_goes_on_when_it_is_cancelled_and_stops_with_the_last_of_them() {
    let mut scene = Scene::new();
    let one = scene.caller();
    let two = scene.caller();
    let leader = scene.call(one, "m/a", value("1"), cached(Cache::On));
    let running = scene.assign().unwrap();
    let follower = scene.call(two, "m/a", value("1"), cached(Cache::On));
    scene.turn(|engine, t| engine.wait(t, one, 1, leader)).unwrap();
    scene.effects.clear();
    let cancelled = scene.turn(|engine, t| engine.cancel(t, Id::Step(leader), false, "by hand")).unwrap();
    assert_eq!((cancelled.stopped, cancelled.kept), (Vec::new(), vec![leader]));
    let told = scene.effects.iter().any(|effect| {
        matches!(effect, Effect::Answer { to, outcome: Outcome::Bad { state: State::Cancelled, .. }, .. } if *to == one)
    });
    assert!(told, "the caller's wait goes on: {:?}", scene.effects);
    assert!(scene.world.engine.is_running(running));
    scene.turn(|engine, t| engine.cancel(t, Id::Step(follower), false, "by hand")).unwrap();
    assert!(!scene.world.engine.is_running(running));
    assert_eq!(scene.newest(leader).0, State::Cancelled);
}

#[test]
fn cancelling_by_force_stops_it_for_all() {
    let mut scene = Scene::new();
    let one = scene.caller();
    let two = scene.caller();
    let leader = scene.call(one, "m/a", value("1"), cached(Cache::On));
    let follower = scene.call(two, "m/a", value("1"), cached(Cache::On));
    scene.turn(|engine, t| engine.cancel(t, Id::Step(leader), true, "by hand")).unwrap();
    assert_eq!((scene.newest(leader).0, scene.newest(follower).0), (State::Cancelled, State::Cancelled));
}

#[test]
fn a_caller_that_succeeds_leaves_its_calls_going_and_one_that_is_abandoned_does_not() {
    let mut scene = Scene::new();
    let one = scene.caller();
    let left = scene.call(one, "m/a", value("1"), CallOptions::default());
    scene.complete(one, "0");
    assert_eq!(scene.newest(left).0, State::Queued);
    let two = scene.caller_skipping(left);
    let dropped = scene.call(two, "m/b", value("1"), CallOptions::default());
    scene.turn(|engine, t| engine.abandon(t, two, "test"));
    assert_eq!(scene.newest(dropped).0, State::Cancelled);
}

#[test]
fn equal_results_make_equal_calls_of_what_refers_to_them() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let reference = |step: StepId| value(&format!(r#"{{"$type":"execution","id":"{step}"}}"#));
    let first = scene.call(caller, "m/a", value("1"), CallOptions::default());
    let second = scene.call(caller, "m/a", value("2"), CallOptions::default());
    let uses_first = scene.call(caller, "m/b", reference(first), cached(Cache::On));
    for _ in 0..2 {
        let execution = scene.assign().unwrap();
        scene.complete(execution, "7");
    }
    let used = scene.assign().unwrap();
    assert_eq!(used.step, uses_first);
    scene.complete(used, "8");
    let uses_second = scene.call(caller, "m/b", reference(second), cached(Cache::On));
    assert_eq!(scene.newest(uses_second).1, Some(Link::Source(used)));
}

#[test]
fn a_queued_call_takes_a_result_that_has_appeared_meanwhile() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let step = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    let first = scene.assign().unwrap();
    scene.complete(first, "5");
    // A call that accepts no finished result is queued; then the first is run again and is newer.
    let strict = scene.call(caller, "m/a", value("1"), cached(Cache::MaxAge(0)));
    assert_eq!(scene.newest(strict).0, State::Queued);
    let lenient = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(lenient).1, Some(Link::Leader(strict.attempt(1))));
    // It leads a follower of any age, but takes only what both accept.
    assert_eq!(scene.assign(), Some(strict.attempt(1)));
    assert_eq!(step.step, 2);
}

#[test]
fn a_time_out_ends_the_attempt_and_tells_its_worker_to_stop() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let options = CallOptions { timeout: Some(1000), ..CallOptions::default() };
    let step = scene.call(caller, "m/a", value("1"), options);
    let running = scene.assign().unwrap();
    scene.pass(999);
    assert!(scene.world.engine.is_running(running));
    scene.effects.clear();
    scene.pass(1);
    assert_eq!(scene.newest(step).0, State::TimedOut);
    assert!(
        scene.effects.iter().any(|effect| matches!(effect, Effect::Stop { execution, .. } if *execution == running))
    );
}

impl Scene {
    /// Another running workflow, while something older is queued.
    fn caller_skipping(&mut self, queued: StepId) -> ExecutionId {
        let execution = self.assign().unwrap();
        assert_eq!(execution.step, queued);
        self.complete(execution, "0");
        self.caller()
    }
}

fn deferred(delay: u64, max_wait: Option<u64>) -> CallOptions {
    CallOptions { delay, defer: Some(Defer { key: None, max_wait }), ..CallOptions::default() }
}

#[test]
fn a_newer_call_takes_the_place_of_a_queued_one_and_its_waiter_gets_that_result() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let older = scene.call(caller, "m/a", value("1"), deferred(1000, None));
    scene.turn(|engine, t| engine.wait(t, caller, 7, older)).unwrap();
    let newer = scene.call(caller, "m/a", value("2"), deferred(1000, None));
    assert_eq!(scene.newest(older).0, State::Deferred);
    scene.pass(1000);
    let running = scene.assign().unwrap();
    assert_eq!(running.step, newer);
    scene.complete(running, "5");
    let answered = scene.effects.iter().any(|effect| {
        matches!(effect, Effect::Answer { token: 7, outcome: Outcome::Value { execution, .. }, .. } if *execution == running)
    });
    assert!(answered, "{:?}", scene.effects);
    // A running one is replaced no more.
    let third = scene.call(caller, "m/a", value("3"), deferred(0, None));
    let running = scene.assign().unwrap();
    scene.call(caller, "m/a", value("4"), deferred(0, None));
    assert_eq!((running.step, scene.newest(third).0), (third, State::Running));
}

#[test]
fn a_burst_starts_at_the_latest_when_its_first_call_has_waited_long_enough() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    for n in 0..5 {
        scene.call(caller, "m/a", value(&n.to_string()), deferred(1000, Some(2500)));
        scene.pass(600);
    }
    // 3000 ms have passed since the first: what was the newest at 2500 ms is due.
    let running = scene.assign().unwrap();
    assert_eq!(running.step.step, 6);
    assert_eq!(scene.assign(), None);
}

#[test]
fn a_replaced_call_wants_what_replaced_it() {
    let mut scene = Scene::new();
    let (first, second) = (scene.caller(), scene.caller());
    scene.call(first, "m/a", value("1"), deferred(1000, None));
    let newer = scene.call(second, "m/a", value("2"), deferred(1000, None));
    let cancelled = scene.turn(|engine, t| engine.cancel(t, Id::Step(newer), false, "by hand")).unwrap();
    assert_eq!(cancelled.kept, [newer]);
    let cancelled = scene.turn(|engine, t| engine.cancel(t, Id::Step(newer), true, "by hand")).unwrap();
    assert_eq!(cancelled.stopped, [newer]);
    let older = StepId { run: first.step.run, step: 2 };
    assert_eq!(scene.world.steps()[&older].attempts[0].resolved, Some(State::Cancelled));
}

#[test]
fn cancelling_a_replaced_call_touches_only_that() {
    let mut scene = Scene::new();
    let (first, second) = (scene.caller(), scene.caller());
    let older = scene.call(first, "m/a", value("1"), deferred(1000, None));
    let newer = scene.call(second, "m/a", value("2"), deferred(1000, None));
    scene.turn(|engine, t| engine.cancel(t, Id::Step(older), false, "by hand")).unwrap();
    assert_eq!((scene.newest(older).0, scene.newest(newer).0), (State::Cancelled, State::Queued));
}

#[test]
fn a_queued_retry_can_be_replaced_and_who_had_joined_it_runs_its_own() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let retries = Retries { limit: 1, delay_min: 60_000, delay_max: 60_000 };
    let options = CallOptions { retries, cache: Cache::On, ..deferred(0, None) };
    let older = scene.call(caller, "m/a", value("1"), options.clone());
    let running = scene.assign().unwrap();
    let joined = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(joined).1, Some(Link::Leader(running)));
    scene.fail(running);
    scene.call(caller, "m/a", value("2"), options);
    assert_eq!(scene.newest(older).0, State::Deferred);
    // It had asked for the value of other arguments.
    assert_eq!(scene.newest(joined).0, State::Queued);
}

#[test]
fn a_forced_execution_neither_replaces_nor_is_replaced() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let done = scene.call(caller, "m/a", value("1"), deferred(0, None));
    let running = scene.assign().unwrap();
    scene.complete(running, "5");
    let queued = scene.call(caller, "m/a", value("2"), deferred(1000, None));
    let forced = scene.turn(|engine, t| engine.rerun(t, done, false)).unwrap();
    assert_eq!(scene.newest(queued).0, State::Queued);
    scene.call(caller, "m/a", value("3"), deferred(1000, None));
    assert_eq!((scene.newest(queued).0, scene.newest(done).0), (State::Deferred, State::Queued));
    assert_eq!(scene.assign(), Some(forced));
}

#[test]
fn a_memoised_step_goes_on_for_the_others_that_it_answers() {
    let mut scene = Scene::new();
    let root = scene.caller();
    let memo = CallOptions { memo: Memo::Arguments, ..CallOptions::default() };
    scene.call(root, "m/b", value("1"), CallOptions::default());
    scene.call(root, "m/b", value("2"), CallOptions::default());
    let (first, second) = (scene.assign().unwrap(), scene.assign().unwrap());
    let step = scene.call(first, "m/a", value("9"), memo.clone());
    assert_eq!(scene.call(second, "m/a", value("9"), memo), step);
    // Its own caller is gone; the other one still wants it.
    scene.turn(|engine, t| engine.abandon(t, first, "test"));
    assert_eq!(scene.newest(step).0, State::Queued);
    // The other gives it up, too.
    scene.turn(|engine, t| engine.forget_memo(t, second, step));
    assert_eq!(scene.newest(step).0, State::Cancelled);
}

#[test]
fn a_re_run_of_a_memoised_step_is_what_later_calls_get() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let memo = CallOptions { memo: Memo::Arguments, ..CallOptions::default() };
    let step = scene.call(caller, "m/a", value("9"), memo.clone());
    let running = scene.assign().unwrap();
    scene.complete(running, "1");
    let forced = scene.turn(|engine, t| engine.rerun(t, step, false)).unwrap();
    assert_eq!(scene.call(caller, "m/a", value("9"), memo.clone()), step);
    assert_eq!(scene.assign(), Some(forced));
    scene.fail(forced);
    assert_ne!(scene.call(caller, "m/a", value("9"), memo), step, "what failed answers nobody");
}

#[test]
fn a_call_that_would_wait_for_itself_by_its_arguments_fails_and_says_so() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let inner = scene.call(caller, "m/a", value("1"), CallOptions::default());
    let running = scene.assign().unwrap();
    assert_eq!(running.step, inner);
    // What it calls waits for it, and it waits for what it calls.
    let to = value(&format!(r#"{{"$type":"execution","id":"{inner}"}}"#));
    let waiting = scene.call(running, "m/b", to, CallOptions { wait: Wait::All, ..CallOptions::default() });
    let refused = scene.turn(|engine, t| engine.wait(t, running, 1, waiting));
    assert!(matches!(refused, Err(Refusal::Deadlock { .. })), "{refused:?}");
    scene.complete(running, "1");
    assert_eq!(scene.assign().map(|execution| execution.step), Some(waiting));
}

#[test]
fn a_sensor_is_kept_running_with_growing_back_off_that_a_healthy_minute_ends() {
    let mut scene = Scene::new();
    scene.turn(|engine, t| engine.start_sensor(t, 1, "m/s", vec![value("1")], false)).unwrap();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let running = scene.assign().unwrap();
        scene.fail(running);
        let due = scene.world.engine.next_due().unwrap();
        waits.push(due - scene.world.now);
        let wait = waits[waits.len() - 1];
        scene.pass(wait);
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    let running = scene.assign().unwrap();
    scene.pass(60_000);
    scene.fail(running);
    assert_eq!(scene.world.engine.next_due().unwrap() - scene.world.now, 1000);
}

#[test]
fn a_sensor_needs_no_slot() {
    let mut scene = Scene::new();
    for n in 0..5 {
        scene.turn(|engine, t| engine.start_sensor(t, 1, "m/s", vec![value(&n.to_string())], false)).unwrap();
    }
    for _ in 0..5 {
        assert!(scene.assign().is_some());
    }
    assert_eq!(scene.world.engine.free_slots(&(1, REPOSITORY.to_owned())), World::concurrency());
}

#[test]
fn work_goes_to_the_nearest_registration_as_it_is_when_its_turn_comes() {
    let mut scene = Scene::new();
    let start = |environment| Start {
        environment,
        target: "m/w".to_owned(),
        arguments: vec![value("0")],
        options: CallOptions::default(),
        token: None,
        idempotency_key: None,
        command: None,
        taken: None,
    };
    scene.turn(|engine, t| engine.start(t, start(2))).unwrap();
    let derived = (2, REPOSITORY.to_owned());
    assert_eq!(scene.world.engine.startable(&derived), 0);
    let mut nearer = scene.world.engine.repository(&(1, REPOSITORY.to_owned())).unwrap().clone();
    nearer.environment = 2;
    scene.turn(|engine, _| engine.register(nearer));
    assert_eq!(scene.world.engine.startable(&derived), 1);
    assert_eq!(scene.world.engine.startable(&(1, REPOSITORY.to_owned())), 0);
}

/// How many finished steps are read for a call that waits for so many others, until it starts.
fn reads_of_a_fan(calls: usize) -> u64 {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let mut ids = Vec::new();
    for n in 0..calls {
        ids.push(scene.call(caller, "m/a", value(&n.to_string()), CallOptions::default()));
    }
    let references: Vec<_> = ids.iter().map(|id| format!(r#"{{"$type":"execution","id":"{id}"}}"#)).collect();
    let all = value(&format!("[{}]", references.join(",")));
    let waiting = scene.call(caller, "m/b", all, CallOptions { wait: Wait::All, ..cached(Cache::On) });
    for _ in 0..calls {
        let running = scene.assign().unwrap();
        assert_ne!(running.step, waiting);
        scene.complete(running, "1");
    }
    assert_eq!(scene.assign().map(|execution| execution.step), Some(waiting));
    scene.world.disk.read.get()
}

#[test]
fn a_call_that_waits_for_many_costs_in_proportion_to_them() {
    let (some, more) = (reads_of_a_fan(100), reads_of_a_fan(400));
    assert!(more <= some * 5, "{some} reads for 100 calls and {more} for 400");
}

#[test]
fn a_re_run_of_everything_below_takes_only_what_it_made_itself() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    scene.call(caller, "m/a", value("1"), cached(Cache::On));
    let old = scene.assign().unwrap();
    scene.complete(old, "5");
    scene.complete(caller, "0");
    let again = scene.turn(|engine, t| engine.rerun(t, caller.step, true)).unwrap();
    assert_eq!(scene.assign(), Some(again));
    let forced = scene.call(again, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(forced).0, State::Queued, "the old result does not count");
    let joined = scene.call(again, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(joined).1, Some(Link::Leader(forced.attempt(1))), "but nothing is made twice");
    let made = scene.assign().unwrap();
    scene.complete(made, "6");
    let later = scene.call(again, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(later).1, Some(Link::Source(made)));
    let plain = scene.turn(|engine, t| engine.step(t, forced)).unwrap();
    assert_eq!(plain.attempts[0].decision, Decision::Forced);
}

#[test]
fn what_is_forgotten_is_made_again_unless_it_is_put_back() {
    let mut scene = Scene::new();
    let caller = scene.caller();
    let step = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    let made = scene.assign().unwrap();
    scene.complete(made, "5");
    let digest = scene.turn(|engine, t| engine.step(t, step)).unwrap().identity.unwrap().digest;
    assert_eq!(scene.turn(|engine, t| engine.forget(t, 1, &digest)), 1);
    assert_eq!(scene.turn(|engine, t| engine.forget(t, 1, &digest)), 0, "there is no more to forget");
    assert!(scene.turn(|engine, t| engine.pin(t, 1, &digest, true)).is_err(), "there is nothing to keep");
    let missed = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    let decision = scene.turn(|engine, t| engine.step(t, missed)).unwrap().attempts[0].decision.clone();
    assert_eq!(decision.kind(), "forgotten");
    let cancelled = scene.turn(|engine, t| engine.cancel(t, Id::Step(missed), true, "test")).is_ok();
    assert!(cancelled);
    assert_eq!(scene.turn(|engine, t| engine.put_back(t, 1, &digest)), 1);
    let hit = scene.call(caller, "m/a", value("1"), cached(Cache::On));
    assert_eq!(scene.newest(hit).1, Some(Link::Source(made)));
    assert!(scene.turn(|engine, t| engine.pin(t, 1, &digest, true)).unwrap());
    assert!(!scene.turn(|engine, t| engine.pin(t, 1, &digest, true)).unwrap(), "it is pinned already");
}
