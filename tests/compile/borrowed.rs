#[ibid::task]
fn length(text: &str) -> ibid::Result<usize> {
    Ok(text.len())
}

fn main() {}
