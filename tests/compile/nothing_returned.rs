#[ibid::task]
async fn greets(name: String) {
    println!("hello {name}");
}

fn main() {}
