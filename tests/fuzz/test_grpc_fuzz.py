"""A small run of the fuzzer; a large one is `python -m tests.fuzz.grpc_fuzz --n 100000`."""

from __future__ import annotations

import asyncio
import random

from tests.child_server import ChildServer
from tests.fuzz.grpc_fuzz import BAD, fuzz
from tests.fuzz.messages import random_message
from tests.fuzz.shared_memory import Mischief


def test_nonsense_is_refused_and_never_an_internal_error(sharing_server: ChildServer) -> None:
    with Mischief(seed=2):
        statuses = asyncio.run(fuzz(sharing_server.grpc_port, 600, seed=1))
    sharing_server.call("POST", "/v2/systemsharedmemory/unregister")
    assert {name: statuses[name] for name in BAD if statuses[name]} == {}
    assert statuses["INVALID_ARGUMENT"] > 100
    assert statuses["OK"] > 20
    assert statuses["stream error"] > 20
    assert "a bug in ferry" not in sharing_server.log


def test_a_seed_sends_the_same_messages_again() -> None:
    first, second = ([random_message(rng) for _ in range(50)] for rng in (random.Random(3), random.Random(3)))
    assert first == second
