//! The Rust counterparts of what the Python tests declare: hosted by the daemon of `behaviour/rust_tasks.rs`.
//! `$MARKS` is a file in which each execution leaves a line.

use std::io::Write as _;
use std::time::{Duration, Instant};

use ibid::{Error, Execution, Result, sensor, stub, task, workflow};
use serde::{Deserialize, Serialize};

mod caching;

fn mark(text: &str) -> Result<()> {
    let path = std::env::var("MARKS")?;
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    Ok(file.write_all(format!("{text}\n").as_bytes())?)
}

/// A post, as a struct.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Post {
    author: u64,
    title: String,
}

/// Adds two numbers.
///
/// Only the first paragraph is shown.
#[task(cache)]
fn add(a: i64, b: i64) -> Result<i64> {
    mark("add")?;
    Ok(a + b)
}

#[workflow]
fn sums(a: i64, b: i64) -> Result<i64> {
    add(a, b)
}

#[task(cache = "1h", retries = 1, namespace = "shared-posts")]
async fn latest_posts(user: u64) -> Result<Vec<Post>> {
    mark("posts")?;
    Ok(vec![Post { author: user, title: "a title".to_owned() }])
}

#[workflow]
async fn read_posts(user: u64) -> Result<String> {
    let posts = latest_posts(user).await?;
    let again = latest_posts(user).await?;
    assert_eq!(posts, again);
    Ok(posts[0].title.clone())
}

#[task(cache, key = |product: &u64, _url: &str| product.to_string())]
fn product(product: u64, url: String) -> Result<String> {
    mark("product")?;
    Ok(format!("{product} from {url}"))
}

#[workflow]
async fn products() -> Result<(String, String)> {
    let first = product::submit(7, "a".to_owned());
    let second = product::submit(7, "b".to_owned());
    Ok((first.await?, second.await?))
}

#[task(cache)]
async fn fibonacci(n: u64) -> Result<u64> {
    mark("fib")?;
    if n < 2 {
        return Ok(n);
    }
    let (a, b) = (fibonacci::submit(n - 1), fibonacci::submit(n - 2));
    Ok(a.await? + b.await?)
}

#[task(cache)]
fn fibonacci_blocking(n: u64) -> Result<u64> {
    mark("fib")?;
    if n < 2 {
        return Ok(n);
    }
    Ok(fibonacci_blocking(n - 1)? + fibonacci_blocking(n - 2)?)
}

#[workflow]
async fn fib(n: u64) -> Result<u64> {
    fibonacci(n).await
}

#[workflow]
fn fib_blocking(n: u64) -> Result<u64> {
    fibonacci_blocking(n)
}

#[task]
async fn half(n: u64) -> Result<f64> {
    if n % 2 == 1 {
        return Err(Error::new("Odd", format!("{n} is odd")));
    }
    Ok(n as f64 / 2.0)
}

#[task(retries = 2)]
async fn third_time(name: String) -> Result<String> {
    mark(&name)?;
    let tries = std::fs::read_to_string(std::env::var("MARKS")?)?.matches(&name).count();
    if tries < 3 { Err(Error::message("not yet")) } else { Ok(name) }
}

#[task]
fn panics() -> Result<()> {
    panic!("there was to be one")
}

#[task]
async fn reads_a_number(text: String) -> Result<i64> {
    Ok(text.parse::<i64>()?)
}

#[task]
async fn quotient(a: f64, b: f64) -> Result<f64> {
    Ok(a / b)
}

#[task(cache)]
async fn medium(n: u64) -> Result<String> {
    Ok(format!("{n:05}").repeat(8000))
}

/// Together the values are larger than a message may be.
#[workflow]
async fn many_medium(count: u64) -> Result<usize> {
    let mut length = 0;
    for one in medium::map(0..count) {
        length += one.await?.len();
    }
    Ok(length)
}

#[task(cache)]
async fn passed_on(part: Execution<i64>) -> Result<i64> {
    part.await
}

/// Asks for several calls of one message at once, some of them as arguments.
#[workflow]
async fn at_once() -> Result<i64> {
    let mut parts = add::map([(1, 1), (2, 2), (3, 3)]).into_iter();
    let mut next = || parts.next().ok_or_else(|| Error::message("there are three"));
    let (first, second, third) = (next()?, next()?, next()?);
    // One that is dropped before its answer is there takes nothing from the others.
    let _too_early = tokio::time::timeout(Duration::ZERO, first.into_future()).await;
    let (second, third) = tokio::join!(second.into_future(), async { passed_on(third).await });
    Ok(second? + third?)
}

#[task(cache)]
async fn unless_three_of_seven(n: u64) -> Result<u64> {
    if n % 7 == 3 { Err(Error::message(format!("not {n}"))) } else { Ok(n) }
}

/// Makes calls in one message and in many, some of them the same, and asks for them in an order of its own. How
/// many answers were those of their calls.
#[workflow]
async fn asks_in_its_own_order(count: u64) -> Result<u64> {
    let asked = |place: u64| place % (count - 20);
    let mut handles: Vec<_> = unless_three_of_seven::map((0..count / 2).map(asked)).into_iter().map(Some).collect();
    handles.extend((count / 2..count).map(asked).map(|n| Some(unless_three_of_seven::submit(n))));
    let mut right = 0;
    for turn in 0..count {
        let place = turn * 37 % count;
        let handle = handles[place as usize].take().ok_or_else(|| Error::message("37 and the count share a factor"))?;
        let n = asked(place);
        right += match handle.await {
            Ok(value) => u64::from(value == n && n % 7 != 3),
            Err(error) => u64::from(n % 7 == 3 && error.to_string().contains(&format!("not {n}"))),
        };
    }
    Ok(right)
}

#[workflow]
async fn forgets_a_call_that_is_refused() -> Result<()> {
    unknown::submit();
    Ok(())
}

#[stub("nowhere")]
async fn unknown() -> Result<()>;

/// The greeting may be left out.
#[workflow]
async fn greets(name: String, greeting: Option<String>) -> Result<String> {
    Ok(format!("{} {name}", greeting.unwrap_or_else(|| "hello".to_owned())))
}

#[workflow]
async fn errors(which: String) -> Result<String> {
    match which.as_str() {
        "odd" => {
            let failed = half(3).await;
            if let Err(error) = &failed {
                assert_eq!((error.kind(), error.text()), ("Odd", "3 is odd"));
                assert!(error.execution().is_some());
            }
            Ok(failed?.to_string())
        }
        "panic" => panics().map(|()| String::new()),
        "parse" => Ok(reads_a_number("x".to_owned()).await?.to_string()),
        "again" => third_time("thrice".to_owned()).await,
        "nan" => Ok(quotient(0.0, 0.0).await?.to_string()),
        "type" => price_in_python("as text".to_owned()).await.map(|price| price.to_string()),
        _ => Ok(half(4).await?.to_string()),
    }
}

#[task(cache, wait)]
fn sum(values: Vec<Execution<i64>>) -> Result<i64> {
    mark("sum")?;
    values.into_iter().map(Execution::wait).sum()
}

#[workflow]
async fn references() -> Result<Execution<i64>> {
    let parts = ibid::group("parts", async { add::map([(1, 2), (3, 4)]) }).await;
    Ok(sum::submit(parts))
}

#[workflow]
async fn reads_references() -> Result<i64> {
    references().await?.await
}

#[task]
async fn says(what: String) -> Result<()> {
    println!("printed {what}");
    ibid::log_info!("said {what} {times} times", what = what, times = 2);
    ibid::progress("words", 1.0, Some(2.0));
    ibid::metric("volume", 0.5);
    Ok(())
}

/// Says far more than can be sent meanwhile, and returns how much memory that took at most, MiB.
#[workflow]
async fn says_much(messages: usize) -> Result<u64> {
    let text = "x".repeat(1000);
    for n in 0..messages {
        ibid::log_info!("{n} {text}");
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or_else(|| Error::message("no VmHWM"))?;
    Ok(peak.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// Its call belongs to no execution.
#[workflow]
async fn spawns() -> Result<i64> {
    tokio::spawn(async { add::call(20, 22).await }).await?
}

#[workflow]
async fn talks() -> Result<()> {
    says("hello".to_owned()).await
}

#[task(timeout = "300ms")]
async fn sleeps(marks: String) -> Result<()> {
    tokio::time::sleep(Duration::from_secs(30)).await;
    mark(&marks)
}

#[task]
fn spins() -> Result<()> {
    mark("spins")?;
    while !ibid::is_cancelled() {
        std::thread::sleep(Duration::from_millis(5));
    }
    mark("noticed")
}

/// What an async task must not do.
#[task]
async fn blocks_its_thread(_n: usize) -> Result<()> {
    mark("blocks")?;
    while !ibid::is_cancelled() {
        std::thread::sleep(Duration::from_millis(5));
    }
    mark("noticed")
}

#[workflow]
async fn blocks_every_thread(count: usize) -> Result<()> {
    for call in blocks_its_thread::map(0..count) {
        call.await?;
    }
    Ok(())
}

/// Waits for something in every way, gives that up each time, and works on.
#[workflow]
async fn gives_up() -> Result<bool> {
    let short = Duration::from_millis(30);
    let waited = tokio::time::timeout(short, spins::call()).await.is_ok()
        || tokio::time::timeout(short, spins::submit().into_future()).await.is_ok();
    mark("gave up")?;
    while !std::path::Path::new(&(std::env::var("MARKS")? + "-go")).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(waited)
}

#[workflow]
async fn waits_in_vain(blocking: bool) -> Result<()> {
    if blocking {
        tokio::task::spawn_blocking(|| ()).await?;
        spins()
    } else {
        sleeps("slept".to_owned()).await
    }
}

#[task(cache)]
async fn large(kind: String, length: usize) -> Result<String> {
    mark("large")?;
    Ok(kind.repeat(length))
}

#[task(cache)]
fn length(text: String) -> Result<usize> {
    Ok(text.len())
}

#[workflow]
async fn passes_large(count: usize) -> Result<usize> {
    let text = large("x".to_owned(), count).await?;
    let first = length(text.clone())?;
    Ok(first.min(length::submit(text).await?))
}

#[task(defer, delay = "200ms")]
async fn saves(text: String) -> Result<String> {
    mark(&text)?;
    Ok(text)
}

#[workflow]
async fn bursts() -> Result<Vec<String>> {
    let mut said = Vec::new();
    for one in saves::map(["a", "b", "c"].map(str::to_owned)) {
        said.push(one.await?);
    }
    Ok(said)
}

#[task(memo)]
async fn looked_up(n: u64) -> Result<u64> {
    mark("looked up")?;
    Ok(n)
}

#[workflow]
async fn remembers_within() -> Result<u64> {
    Ok(looked_up(1).await? + looked_up(1).await?)
}

#[workflow]
async fn changes_options() -> Result<i64> {
    // One that is not async waits by itself, in async code, too.
    let first = add(20, 1)?;
    Ok(first + add::call(20, 1).no_cache().timeout(Duration::from_secs(5)).await?)
}

#[stub("prices", name = "price", cache, namespace = "prices:price")]
async fn price_in_python(product: String) -> Result<f64>;

#[stub("shell")]
async fn shout(text: String) -> Result<String>;

#[workflow]
async fn mixed(product: String) -> Result<f64> {
    price_in_python(product).await
}

/// What Python's tests know as `shared:value`: the same value is the same call.
#[task(cache, namespace = "shared:value")]
fn value(n: serde_json::Value) -> Result<String> {
    mark("made in rust")?;
    Ok(format!("{n} in rust"))
}

#[workflow]
fn same(n: serde_json::Value) -> Result<String> {
    value(n)
}

#[task]
async fn shouts(text: String) -> Result<String> {
    shout(text).await
}

#[sensor]
async fn ticks(mut beat: u64) -> Result<()> {
    loop {
        mark(&format!("beat {beat}"))?;
        beat += 1;
        ibid::checkpoint((beat,)).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[task]
async fn nothing(_n: u64) -> Result<()> {
    Ok(())
}

#[task(cache)]
async fn nothing_cached(_n: u64) -> Result<()> {
    Ok(())
}

/// For benches: executions a second, many calls at once.
#[workflow]
async fn noops(count: u64) -> Result<f64> {
    let begun = Instant::now();
    for call in nothing::map(0..count) {
        call.await?;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// For benches: milliseconds for each of many calls, one after the other.
#[workflow]
async fn one_by_one(count: u64) -> Result<f64> {
    let begun = Instant::now();
    for n in 0..count {
        nothing(n).await?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3 / count as f64)
}

/// For benches: microseconds for a hit, one after the other and many at once.
#[workflow]
async fn hits(count: u64) -> Result<(f64, f64)> {
    for call in nothing_cached::map(0..count) {
        call.await?;
    }
    let each = |begun: Instant| begun.elapsed().as_secs_f64() * 1e6 / count as f64;
    let begun = Instant::now();
    for n in 0..count {
        nothing_cached(n).await?;
    }
    let single = each(begun);
    let begun = Instant::now();
    for call in nothing_cached::map(0..count) {
        call.await?;
    }
    Ok((single, each(begun)))
}

fn main() -> Result<()> {
    ibid::worker::main()
}
