"""Independent pieces of one computation, in threads side by side where more than one is allowed."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache

_MOST_THREADS = 256


def for_each(work: Callable[[int], None], count: int, threads: int) -> None:
    """Call work(0), ..., work(count - 1); an exception of any of them is raised here, once all have ended.

    The calling thread does its share. Others that are busy elsewhere are not waited for: work may call
    ``for_each`` itself.
    """
    todo = deque(range(count))

    def take() -> None:
        try:
            while todo:
                try:
                    index = todo.popleft()
                except IndexError:
                    return
                work(index)
        except BaseException:
            todo.clear()
            raise

    helpers = [_helpers().submit(take) for _ in range(min(threads, count) - 1)]
    try:
        take()
    finally:
        at_work = [helper for helper in helpers if not helper.cancel()]
        wait(at_work)
    for helper in at_work:
        helper.result()


@lru_cache(maxsize=1)
def _helpers() -> ThreadPoolExecutor:
    """Threads that stay: to begin and end some for each of a hundred small computations a second is work."""
    return ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="side by side")


# A process that forks leaves its threads behind.
os.register_at_fork(after_in_child=_helpers.cache_clear)
