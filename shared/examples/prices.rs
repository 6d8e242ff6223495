//! A program of tasks that Python calls, and that calls a shell command: see `mixed/README.md`.

use ibid::{Result, stub, task};

/// What one euro is in a currency: the command of that name in `ibid.toml`, asked once an hour.
#[stub("shell", name = "rate", cache = "1h")]
async fn rate(currency: String) -> Result<String>;

/// The price of a product in a currency.
#[task(cache)]
async fn price(product: String, currency: String) -> Result<f64> {
    let rate: f64 = rate(currency).await?.trim().parse()?;
    ibid::log_info!("{product} at a rate of {rate}", product = product, rate = rate);
    Ok((product.len() as f64 * rate * 100.0).round() / 100.0)
}

fn main() -> Result<()> {
    ibid::worker::main()
}
