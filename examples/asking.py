"""Asks a server as a good client does: what it refuses for now is asked again, after the time it names."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtests.closed_loop import drive
from loadtests.tensors import Array
from loadtests.wire import decode

REFUSED = 503
MOST_ROUNDS = 20


@dataclass(frozen=True)
class Answers:
    """What came back: `found` by index of the request (none for one that failed, or was refused to the last), and how many times the
    server said "not now"."""

    found: dict[int, dict[str, Array]]
    n_refused: int


def ask(host: str, port: int, requests: Sequence[bytes], connections: int) -> Answers:
    """Send each request until it has an answer, at most MOST_ROUNDS times.

    Raises LoadTestError when no connection can be opened, or an answer is not what V2 says.
    """
    found: dict[int, dict[str, Array]] = {}
    n_refused = 0
    left = list(range(len(requests)))
    for _ in range(MOST_ROUNDS):
        refused, retry_after_s = _ask_once(host, port, requests, left, connections, found)
        n_refused += len(refused)
        if not refused:
            break
        left = refused
        time.sleep(retry_after_s)
    return Answers(found, n_refused)


def _ask_once(
    host: str, port: int, requests: Sequence[bytes], asked: Sequence[int], connections: int, found: dict[int, dict[str, Array]]
) -> tuple[list[int], float]:
    """Adds the answers to `found`; returns what was refused, and the longest time that the server named for coming back."""
    refused: list[int] = []
    retry_after_s = 0.0

    def note(place: int, status: int, headers: Mapping[str, str], body: bytes) -> None:
        nonlocal retry_after_s
        if status == REFUSED:
            refused.append(asked[place])
            retry_after_s = max(retry_after_s, float(headers.get("retry-after", 0)))
        elif status == 200:
            found[asked[place]] = decode(status, headers, body)

    cycle = [requests[index] for index in asked]
    drive(host, port, cycle, connections=min(connections, len(cycle)), n_requests=len(cycle), on_answer=note)
    return refused, retry_after_s
