"""A workflow in Python that calls Rust, which calls the shell."""

from ibid import stub, workflow


@stub("prices", cache=True)
def price(product, currency): ...


@workflow
def catalogue(currency="usd", products=("chair", "table", "lamp")):
    """The prices of all products."""
    pending = price.map([(product, currency) for product in products])
    return {product: one.result() for product, one in zip(products, pending)}
