//! What caching promises, in Rust: the targets of `behaviour/rust_caching.rs`.

use std::time::Duration;

use ibid::{Error, Result, task, workflow};

use crate::mark;

#[task(cache)]
fn plus(left: i64, right: i64) -> Result<i64> {
    mark("plus")?;
    Ok(left + right)
}

#[workflow]
fn total(left: i64, right: i64) -> Result<Vec<i64>> {
    [plus(left, right), plus(left, right), plus::submit(left, right).wait()].into_iter().collect()
}

#[task(cache = 0.7)]
async fn newest(_user: u64) -> Result<()> {
    mark("newest")
}

#[task(cache = "700ms")]
async fn oldest(_user: u64) -> Result<()> {
    mark("oldest")
}

#[workflow]
async fn feeds(user: u64) -> Result<()> {
    newest(user).await?;
    oldest(user).await
}

#[task(cache)]
async fn look(n: u64) -> Result<u64> {
    mark("look")?;
    Ok(n)
}

#[workflow]
async fn looks(age: u64) -> Result<u64> {
    look(1).cache_for(Duration::from_millis(age)).await
}

#[task(cache)]
fn headlines(day: String) -> Result<String> {
    mark("headlines")?;
    Ok(day)
}

#[workflow]
fn press(day: String) -> Result<String> {
    headlines(day)
}

#[task(cache)]
async fn slow(n: i64) -> Result<i64> {
    mark("slow")?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    if n < 0 { Err(Error::new("Negative", format!("no {n}"))) } else { Ok(n * 2) }
}

#[workflow]
async fn twice(n: i64) -> Result<Vec<String>> {
    let (first, second) = (slow::submit(n), slow::submit(n));
    let told = |result: Result<i64>| result.map_or_else(|error| error.text().to_owned(), |value| value.to_string());
    Ok(vec![told(first.await), told(second.await)])
}

#[task(cache, key = |article: &u64, _address: &String| article.to_string())]
async fn article(article: u64, address: String) -> Result<String> {
    mark("article")?;
    let _ = article;
    Ok(address)
}

#[workflow]
async fn shop(number: u64, address: String) -> Result<String> {
    article(number, address).await
}

#[task(cache, namespace = "before:old")]
fn renamed() -> Result<u64> {
    mark("renamed")?;
    Ok(6)
}

#[task(cache, name = "first-name", namespace = "before:old")]
fn named_before() -> Result<u64> {
    mark("renamed")?;
    Ok(5)
}

#[workflow]
fn renames() -> Result<(u64, u64)> {
    Ok((named_before()?, renamed()?))
}

#[task(cache, namespace = "both")]
async fn left(a: u64) -> Result<String> {
    Ok(format!("left {a}"))
}

#[task(cache, namespace = "both")]
async fn right(b: u64) -> Result<String> {
    Ok(format!("right {b}"))
}

#[workflow]
async fn pair() -> Result<Vec<String>> {
    Ok(vec![left(1).await?, right(1).await?, right(2).await?, left(2).await?])
}

#[workflow(cache)]
async fn child() -> Result<u64> {
    mark("child")?;
    Ok(1)
}

#[workflow]
async fn parent() -> Result<u64> {
    Ok(child().await? + child().await?)
}

#[workflow(cache)]
async fn alone(n: u64) -> Result<u64> {
    mark("alone")?;
    Ok(n)
}

#[workflow(cache, key = |n| format!("{n}"))]
async fn keyed(n: u64) -> Result<u64> {
    Ok(n)
}

#[task(cache)]
fn read() -> Result<usize> {
    mark("read")?;
    Ok(std::fs::read_to_string(std::env::var("MARKS")?)?.matches("read").count())
}

#[workflow]
fn clock() -> Result<usize> {
    read()
}

#[task(cache, version = "1")]
fn versioned(_n: u64) -> Result<()> {
    mark("versioned")
}

#[task(cache, name = "versioned-again", namespace = "rust-tasks:versioned", version = "2")]
fn versioned_again(_n: u64) -> Result<()> {
    mark("versioned")
}

#[task(cache)]
fn unless_broken() -> Result<()> {
    if std::path::Path::new(&(std::env::var("MARKS")? + "-broken")).exists() {
        return Err(Error::message("broken"));
    }
    Ok(())
}

/// Each condition of a hit, broken alone.
#[workflow]
async fn conditions(how: String) -> Result<()> {
    match how.as_str() {
        "fits" | "environment" => versioned(1),
        "off" => versioned::call(1).no_cache().await,
        "arguments" => versioned(2),
        "namespace" => {
            plus(1, 1)?;
            Ok(())
        }
        "version" => versioned_again(1),
        "age" => versioned::call(1).cache_for(Duration::ZERO).await,
        "uncached" => versioned::call(3).no_cache().await,
        "after the uncached" => versioned(3),
        "failed" | "after the failed" => unless_broken(),
        other => Err(Error::message(format!("there is no condition {other}"))),
    }
}
