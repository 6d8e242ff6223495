//! Fills a data directory with a long past, to look at: `cargo run --release -p ibid-tests --bin fill
//! DIRECTORY [STEPS [LINES]]`; a million steps, and a log of 100,000 lines.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next().map(PathBuf::from) else {
        eprintln!("fill DIRECTORY [STEPS [LINES]]");
        std::process::exit(2);
    };
    let mut number = |default| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (steps, lines) = (number(1_000_000), number(100_000));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let begun = Instant::now();
    let filled = ibid_tests::filled::fill(&directory, steps, lines, i64::try_from(now).unwrap_or(0));
    println!(
        "{} steps in {} runs, the largest {}; a log of {} lines is that of {}; {:.1} s",
        filled.steps,
        filled.runs,
        filled.largest,
        lines,
        filled.logged,
        begun.elapsed().as_secs_f64()
    );
}
