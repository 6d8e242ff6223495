#[ibid::task(key = |id: &u64| id.to_string())]
fn product(id: u64) -> ibid::Result<u64> {
    Ok(id)
}

fn main() {}
