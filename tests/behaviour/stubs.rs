//! Targets of other repositories, hosted by other interpreters.

use ibid_tests::{Home, pythons};

const SHOP: &str = r#"
import sys
from ibid import task, workflow

@task()
def price(product, currency="EUR"):
    return [product, currency, "%d.%d" % sys.version_info[:2]]

@task(name="other-name")
def named(x):
    return x * 2
"#;

const NEWS: &str = r#"
import sys
from ibid import stub, workflow

@stub("shop", cache=60)
def price(product, currency="EUR"):
    return "outside"

@stub("shop", name="other-name")
def double(x): ...

@stub("nowhere")
def missing(): ...

@workflow()
def front():
    first = price("tea")
    second = price.submit(product="tea").result()
    assert first == second
    return [first, double(4), "%d.%d" % sys.version_info[:2], price.map(["a", "b"])[1].result()[0]]

@workflow()
def broken():
    return missing()
"#;

#[test]
fn a_run_across_two_repositories_with_different_interpreters_works() {
    let home = Home::new();
    let _daemon = home.daemon();
    let found = pythons();
    let (old, new) = (&found[0], &found[found.len() - 1]);
    home.write("shop.py", SHOP);
    home.write("news.py", NEWS);
    home.ok(&["register", "shop", "--python", &old.path.display().to_string()]);
    home.ok(&["register", "news", "--python", &new.path.display().to_string()]);
    let expected = format!(r#"[["tea","EUR","{}"],8,"{}","b"]"#, old.version, new.version);
    assert_eq!(home.ok(&["run", "news/front"]), expected);
    // The second call of the same product took the result of the first, as the caller asked for.
    assert_eq!(home.why("R1:3"), "hit");
    let told = home.fails(1, &["run", "news/broken"]);
    assert!(told.contains("nowhere/missing") && told.contains("ibid register nowhere"), "{told}");
}
