//! The engine against a slow, obvious model of what it promises.
//!
//! Random calls with every option, waits, completions, failures, cancels,
//! re-runs, sensors, changes of bases, clock steps in both directions,
//! restarts, and crashes that lose all that the open turn held; after each one
//! every invariant of `invariants.rs` must hold. A failing case is shrunk and printed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod hands;
mod invariants;
mod model;
mod month;
mod rules;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use world::{Op, World};

/// How many random histories a normal test run plays, some thirty actions each and as many to finish them:
/// more than a million. `IBID_SIMULATION_CASES` plays more.
const CASES: u32 = 40_000;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..3u8, any::<bool>(), 0..3u8, 0..6u8).prop_map(|(environment, cached, argument, extra)| Op::Start { environment, cached, argument, extra }),
        10 => (any::<u8>(), 0..3u8, 0..3u8, 0..4u8, 0..12u8).prop_map(|(caller, target, argument, cache, extra)| Op::Call { caller, target, argument, cache, extra }),
        6 => (any::<u8>(), any::<u8>()).prop_map(|(waiter, target)| Op::Wait { waiter, target }),
        8 => (0..4u8).prop_map(|count| Op::Assign { count }),
        6 => any::<u8>().prop_map(|which| Op::Complete { which }),
        3 => any::<u8>().prop_map(|which| Op::Fail { which }),
        1 => any::<u8>().prop_map(|which| Op::Abandon { which }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, force)| Op::Cancel { which, force }),
        3 => any::<u8>().prop_map(|which| Op::Rerun { which }),
        3 => (-2000..5000i64).prop_map(|by| Op::Clock { by }),
        1 => Just(Op::Restart),
        1 => Just(Op::Crash),
        1 => (0..3u8, 0..2u8, any::<bool>()).prop_map(|(environment, argument, fresh)| Op::StartSensor { environment, argument, fresh }),
        1 => (0..3u8).prop_map(|environment| Op::StopSensor { environment }),
        1 => any::<u8>().prop_map(|which| Op::Checkpoint { which }),
        1 => any::<u8>().prop_map(|which| Op::ForgetMemo { which }),
        1 => Just(Op::Interrupt),
        1 => any::<bool>().prop_map(|based| Op::Base { based }),
    ]
}

#[test]
fn whatever_happens_the_engine_decides_as_the_model_and_keeps_its_invariants() {
    let cases = std::env::var("IBID_SIMULATION_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let histories = (1..5u32, proptest::collection::vec(op(), 1..60));
    let outcome = runner.run(&histories, |(turn_length, ops)| {
        let mut world = World::new(turn_length);
        for op in &ops {
            world.play(op).map_err(TestCaseError::fail)?;
            invariants::check(&world).map_err(TestCaseError::fail)?;
        }
        world.finish().map_err(TestCaseError::fail)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
