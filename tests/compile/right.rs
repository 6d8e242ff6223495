//! Every option in one place compiles.
#![deny(warnings)]
#![forbid(unsafe_code)]

use ibid::{Execution, Result, sensor, stub, task, workflow};

#[task(
    cache = "10m", key = |a, _b: &str| format!("{a}"), namespace = "n", version = "1", retries = (2, "1s", 10),
    delay = 0.5, defer = |_a, b: &str| b.to_owned(), defer_max_wait = "1m", memo = |_, _| "m", timeout = 60,
    wait = ["a"], name = "other"
)]
async fn everything(a: u64, mut b: String) -> Result<String> {
    b.push_str(&a.to_string());
    Ok(b)
}

#[task(cache = false, memo = false, wait, retries = (1, "500ms"), defer)]
pub(crate) fn blocking(_parts: Vec<Execution<String>>) -> Result<()> {
    Ok(())
}

#[workflow(memo)]
async fn flows() -> Result<()> {
    let one = everything(1, String::new()).await?;
    let handle = everything::submit(2, one);
    blocking(vec![handle])
}

#[sensor]
fn senses(seen: u64) -> Result<()> {
    ibid::checkpoint_blocking((seen + 1,))
}

#[stub("elsewhere", cache = 3600)]
async fn remote(n: u64) -> Result<u64>;

#[stub("elsewhere")]
fn remote_blocking(n: u64) -> Result<u64> {
    Ok(n)
}

fn main() -> Result<()> {
    let _ = (flows(), remote(1), remote_blocking(2)?, blocking(Vec::new()), senses(3));
    ibid::worker::main()
}
