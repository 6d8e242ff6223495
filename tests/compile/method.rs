struct Shop;

impl Shop {
    #[ibid::task]
    fn price(&self) -> ibid::Result<f64> {
        Ok(1.0)
    }
}

fn main() {}
