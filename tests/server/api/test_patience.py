"""Patience with clients, on a loop whose clock the test turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.api.patience import SLOWEST_BYTES_PER_S, TICK_S, Patience


class Loop:
    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, call: Callable[..., None], *args: Any) -> object:
        self.due.append((self.now + delay_s, call, args))
        return object()

    def run_until(self, then: float) -> None:
        while self.due and self.due[0][0] <= then:
            self.now, call, args = self.due.pop(0)
            call(*args)
        self.now = then


class Client:
    def __init__(self) -> None:
        self.n_received = 0
        self.is_held_up = False
        self.told: list[str] = []

    def give_up(self) -> None:
        self.told.append("give up")

    def abandon(self) -> None:
        self.told.append("abandon")


@pytest.fixture
def loop() -> Any:
    return Loop()


def test_who_sends_nothing_more_is_given_up_once_and_then_nothing_ticks(loop: Any) -> None:
    patience, client = Patience(10), Client()
    patience.expect_request(client, loop)
    loop.run_until(10)
    assert client.told == []
    loop.run_until(10 + 2 * TICK_S)
    assert (client.told, patience.n_watched, loop.due) == (["give up"], 0, [])


def test_bytes_that_come_buy_time_at_a_rate(loop: Any) -> None:
    patience, client = Patience(10), Client()
    patience.expect_request(client, loop)
    client.n_received = 5 * SLOWEST_BYTES_PER_S
    loop.run_until(15)
    assert client.told == []
    loop.run_until(16)
    assert client.told == ["give up"]


def test_who_waits_for_us_is_not_to_blame(loop: Any) -> None:
    patience, client = Patience(10), Client()
    patience.expect_request(client, loop)
    client.is_held_up = True
    loop.run_until(50)
    client.is_held_up = False
    loop.run_until(59)
    assert client.told == []
    loop.run_until(61)
    assert client.told == ["give up"]


def test_readers_have_time_for_what_they_are_owed(loop: Any) -> None:
    patience, slow, done = Patience(10), Client(), Client()
    patience.expect_reading(slow, 2 * SLOWEST_BYTES_PER_S, loop)
    patience.expect_reading(done, 1, loop)
    patience.has_read(done)
    loop.run_until(12)
    assert slow.told == []
    loop.run_until(13)
    assert (slow.told, done.told) == (["abandon"], [])


def test_one_timer_serves_all_and_ends_with_the_last(loop: Any) -> None:
    patience = Patience(10)
    clients = [Client() for _ in range(100)]
    for client in clients:
        patience.expect_request(client, loop)
    assert len(loop.due) == 1
    for client in clients:
        patience.has_sent(client)
        patience.has_sent(client)  # twice is harmless
    loop.run_until(30)
    assert loop.due == []
    assert all(not client.told for client in clients)
