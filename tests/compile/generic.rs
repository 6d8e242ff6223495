#[ibid::task]
fn first<T: Clone>(items: Vec<T>) -> ibid::Result<T> {
    Ok(items[0].clone())
}

fn main() {}
