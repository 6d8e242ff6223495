"""The example repository that comes with ibid: every way a result is reused.

Run it with ``ibid demo``, or by hand: ``ibid register ibid.demo`` and
``ibid run ibid.demo/tour``.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from ibid import checkpoint, group, log_info, progress, sensor, task, workflow


@task(cache=True)
def fib(n: int) -> int:
    """A Fibonacci number, the slow way; every number is made once."""
    time.sleep(0.02)
    if n < 2:
        return n
    first, second = fib.submit(n - 1), fib.submit(n - 2)
    return first.result() + second.result()


@task(cache=dt.timedelta(minutes=10))
def weather(city: str) -> dict[str, Any]:
    """Stands for a slow request: an answer is good for ten minutes."""
    log_info("asking for the weather in {city}", city=city)
    time.sleep(0.25)
    return {"city": city, "degrees": 10 + len(city)}


@task(cache=True, cache_key=lambda product, _url: str(product))
def product(product: int, url: str) -> dict[str, Any]:
    """Its key ignores the address: a product is the same wherever it is fetched."""
    time.sleep(0.1)
    return {"product": product, "fetched_from": url}


@task(cache=True, cache_namespace="ibid.demo:length")
def length(text: str) -> int:
    """Shares its results with `size`."""
    time.sleep(0.1)
    return len(text)


@task(cache=True, cache_namespace="ibid.demo:length")
def size(text: str) -> int:
    """Shares its results with `length`."""
    return length.function(text)


@workflow(cache=True)
def forecast(cities: list[str]) -> list[int]:
    """Called from another workflow it is remembered as a whole."""
    with group("cities"):
        pending = weather.map(cities)
    return [execution.result()["degrees"] for execution in progress(pending)]


@workflow()
def tour(n: int = 12) -> dict[str, Any]:
    """One call of everything; run it twice and see what the second needs to do."""
    numbers = fib.submit(n)
    shop = [product(7, "https://a.example/7"), product(7, "https://b.example/7")]
    lengths = [length("ibidem"), size("ibidem")]
    degrees = forecast(["Bergen", "Oslo", "Bergen"])
    return {"fib": numbers.result(), "shop": shop, "lengths": lengths, "degrees": degrees}


@workflow(cache=True, retries=3)
def tick(began: float, beat: int) -> int:
    """One beat of the `ticker`. As it is cached, a beat that is sent twice takes the result of the first."""
    log_info("beat {beat}", beat=beat)
    return beat


@sensor()
def ticker(every: float = 1.0, beat: int = 0, began: float = 0.0) -> None:
    """Starts `tick` in regular time. Kill what you like, its worker or the daemon: no beat is lost.

    It sends a beat before it notes that it has done so. Killed in between it sends
    the beat again, and `tick` takes the result of the first.
    """
    began = began or time.time()
    while True:
        tick.submit(began, beat)
        beat += 1
        checkpoint(every, beat, began)
        time.sleep(every)
