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

/// Names that the attribute might use itself.
#[task(cache, key = |options, target, arguments, text, r#type| format!("{options}{target}{arguments}{text}{:?}", r#type))]
fn named(options: u8, target: u8, arguments: u8, text: String, r#type: Option<u8>) -> Result<String> {
    let _ = (options, target, arguments, r#type);
    Ok(text)
}

#[stub("elsewhere")]
async fn named_remotely(options: u8, message: u8, result: u8) -> Result<u8>;

#[task]
#[cfg(any())]
fn left_out(nothing: Missing) -> Result<()> {}

#[task]
#[allow(unused_variables)]
#[deprecated = "there are others"]
async fn allows(unused: u8) -> Result<()> {
    Ok(())
}

fn main() -> Result<()> {
    let _ = (named_remotely(1, 2, 3), named(1, 2, 3, String::new(), None));
    let _ = (flows(), remote(1), remote_blocking(2)?, blocking(Vec::new()), senses(3));
    ibid::worker::main()
}
