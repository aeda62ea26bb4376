"""Independent pieces of one computation, in threads side by side where more than one is allowed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def for_each(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call work(0), ..., work(count - 1); an exception of any of them is raised here."""
    if threads == 1 or count == 1:
        for index in range(count):
            work(index)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(count)):
            pass
