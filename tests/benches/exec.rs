//! A hit of `ibid exec` as a whole process, beside the bare command and, where it is installed, `bkt`:
//! `cargo run --release -p ibid-tests --bin exec`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ibid_tests::{Home, binaries};

/// How often each is run; they take turns, so that all meet the same moments.
const ROUNDS: usize = 1000;

fn main() {
    let home = Home::new();
    let _daemon = home.daemon();
    let words = ["/bin/true"];
    let ibid = binaries().join("ibid").display().to_string();
    let mut contestants: Vec<(&str, Vec<String>)> = vec![
        ("bare command", words.map(str::to_owned).to_vec()),
        (
            "ibid exec, hit",
            [&[ibid.as_str(), "exec", "--cache", "--"], &words[..]]
                .concat()
                .iter()
                .map(|word| (*word).to_owned())
                .collect(),
        ),
    ];
    let bkt = std::env::var("BKT").unwrap_or_else(|_| "bkt".to_owned());
    if Command::new(&bkt).arg("--version").stdout(Stdio::null()).status().is_ok() {
        let cache = home.path().join("bkt").display().to_string();
        let line = [bkt.as_str(), "--ttl", "1h", "--cache-dir", &cache, "--", words[0]];
        contestants.push(("bkt, hit", line.map(str::to_owned).to_vec()));
    } else {
        eprintln!("bkt is not on the path: 'cargo install bkt', or name it with BKT");
    }
    let run = |line: &[String]| -> Duration {
        let begun = Instant::now();
        let status = Command::new(&line[0])
            .args(&line[1..])
            .env("IBID_SOCKET", home.socket())
            .env("IBID_DATA_DIR", home.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{line:?}");
        begun.elapsed()
    };
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contestants.len()];
    for round in 0..ROUNDS + 20 {
        for (line, times) in contestants.iter().zip(&mut times) {
            let took = run(&line.1);
            // The first ones fill the caches.
            if round >= 20 {
                times.push(took);
            }
        }
    }
    for ((name, _), times) in contestants.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1000.0;
        println!("{name:<16} median {:.3} ms   p10 {:.3}   p90 {:.3}", at(50), at(10), at(90));
    }
}
