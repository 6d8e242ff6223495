#[ibid::stub(cache)]
async fn price(product: String) -> ibid::Result<f64>;

fn main() {}
