"""Several rows, one outcome: joined in order, first error wins, outputs that nobody wants need not fit."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from server.backends.base import Array
from server.errors import Cancelled, ModelFailed
from server.runtime.engine import Engine
from server.runtime.gathering import Gathering, _Row


class Cancels:
    """As much of an engine as a gathering needs."""

    def __init__(self) -> None:
        self.cancelled: list[Any] = []

    def cancel(self, request: Any) -> None:
        self.cancelled.append(request)


def gather(n_rows: int, wanted: set[int]) -> tuple[Cancels, asyncio.Future[list[Array]], Gathering, list[_Row]]:
    engine = Cancels()
    answer: asyncio.Future[list[Array]] = asyncio.get_running_loop().create_future()
    made = Gathering(cast(Engine, engine), answer, wanted, n_rows)
    made.rows.extend(cast(Any, f"row {n}") for n in range(n_rows))
    return engine, answer, made, [_Row(made, n) for n in range(n_rows)]


def test_rows_are_joined_in_order_whenever_they_come() -> None:
    async def scenario() -> None:
        _, answer, _, rows = gather(3, {0})
        for n in (2, 0, 1):
            assert not rows[n].done()
            rows[n].set_result([np.full((1, 2), n), np.zeros((1, 1 + n))])
            assert rows[n].done()
        joined, unwanted = await answer
        assert joined.tolist() == [[0, 0], [1, 1], [2, 2]]
        assert unwanted.shape == (1, 1)

    asyncio.run(scenario())


def test_the_first_error_is_the_answer_and_the_others_are_cancelled_afterwards() -> None:
    async def scenario() -> None:
        engine, answer, _, rows = gather(3, {0})
        rows[0].set_result([np.zeros((1, 1))])
        rows[1].set_exception(ModelFailed("bad"))
        assert engine.cancelled == [], "not while the engine is at it"
        rows[2].set_exception(Cancelled("later"))
        with pytest.raises(ModelFailed, match="bad"):
            await answer
        await asyncio.sleep(0)
        assert engine.cancelled == ["row 0", "row 1", "row 2"]

    asyncio.run(scenario())


def test_an_answer_that_nobody_waits_for_is_left_alone() -> None:
    async def scenario() -> None:
        engine, answer, gathering, rows = gather(1, {0})
        answer.cancel()
        rows[0].set_result([np.zeros((1, 1))])
        assert answer.cancelled()
        gathering.cancel()
        assert engine.cancelled == ["row 0"]

    asyncio.run(scenario())
