#[ibid::task(wait = "pages")]
fn count(page: ibid::Execution<String>) -> ibid::Result<usize> {
    Ok(page.wait()?.len())
}

fn main() {}
