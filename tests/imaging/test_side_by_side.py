"""Pieces of a computation side by side."""

import os
import threading

import pytest

from tomofly.imaging.side_by_side import for_each


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_each_piece_is_done_once(threads: int, count: int) -> None:
    done: list[int] = []
    for_each(done.append, count, threads)
    assert sorted(done) == list(range(count))


def test_pieces_are_done_at_the_same_time_and_the_caller_does_some() -> None:
    meeting = threading.Barrier(3, timeout=10)
    who: set[int] = set()

    def meet(_: int) -> None:
        meeting.wait()
        who.add(threading.get_ident())

    for_each(meet, 3, 3)
    assert len(who) == 3
    assert threading.get_ident() in who


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_comes_back_and_ends_the_rest(threads: int) -> None:
    done: list[int] = []

    def fail(index: int) -> None:
        if index == 3:
            raise ArithmeticError("piece 3")
        done.append(index)

    with pytest.raises(ArithmeticError, match="piece 3"):
        for_each(fail, 10_000, threads)
    assert 3 not in done
    assert len(done) < 10_000


def test_work_may_be_split_again_however_busy_all_are() -> None:
    done: list[tuple[int, int]] = []

    def split(outer: int) -> None:
        for_each(lambda inner: done.append((outer, inner)), 8, 8)

    for_each(split, 300, 300)
    assert len(set(done)) == 300 * 8


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that is what is tried
def test_a_forked_process_has_threads_of_its_own() -> None:
    for_each(lambda _: None, 4, 4)
    child = os.fork()
    if child == 0:
        done: list[int] = []
        for_each(done.append, 4, 4)
        os._exit(0 if sorted(done) == [0, 1, 2, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
