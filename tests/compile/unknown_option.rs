#[ibid::task(cache, ttl = "10m")]
fn add(a: i64, b: i64) -> ibid::Result<i64> {
    Ok(a + b)
}

#[ibid::workflow(retry = 2)]
fn sums(a: i64) -> ibid::Result<i64> {
    add(a, a)
}

fn main() {}
