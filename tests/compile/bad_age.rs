#[ibid::task(cache = "ten minutes")]
fn one() -> ibid::Result<i64> {
    Ok(1)
}

#[ibid::task(retries = "often")]
fn two() -> ibid::Result<i64> {
    Ok(2)
}

fn main() {}
