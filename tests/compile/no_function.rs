#[ibid::task]
struct Price {
    value: f64,
}

fn main() {}
