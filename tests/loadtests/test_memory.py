from __future__ import annotations

import os

from loadtests.memory import Look, MemoryWatch


def test_a_process_is_looked_at_until_the_end() -> None:
    with MemoryWatch(os.getpid(), every_s=60.0) as watch:
        pass
    assert watch.looks
    assert watch.looks[0].rss > 1_000_000
    assert watch.most(0.0, 60.0) == max(one.rss for one in watch.looks)


def test_the_most_of_an_interval() -> None:
    watch = MemoryWatch(os.getpid())
    watch.looks = [Look(0.0, 10), Look(1.0, 30), Look(2.0, 20)]
    assert watch.most(0.0, 1.5) == 30
    assert watch.most(2.0, 3.0) == 20
    assert watch.most(5.0, 6.0) is None
