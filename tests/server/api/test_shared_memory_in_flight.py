"""What happens to shared memory while a request runs is that request's affair, and not its batch-mates'."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.api.shared_memory import Regions
from tests.child_server import Reply
from tests.server.runtime.scripted_world import publish_fake, values, world

SIZE = 64


def shared(region: str, offset: int) -> dict[str, Any]:
    return {"shared_memory_region": region, "shared_memory_byte_size": 4, "shared_memory_offset": offset}


BODY = {
    "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "parameters": shared("r", 0)}],
    "outputs": [{"name": "y", "parameters": shared("r", 8)}],
}


def outcomes(tmp_path: Path, meanwhile: Callable[[Regions, Path], None]) -> tuple[Reply, Reply, bytes]:
    """The replies of a request in shared memory and of its batch-mate, and the memory after them: `meanwhile` happens when both are
    accepted and none has run."""
    path = tmp_path / "shm" / "tensors"
    path.parent.mkdir()
    path.write_bytes(np.float32(21).tobytes().ljust(SIZE, b"\0"))
    regions = Regions(1000, path.parent)
    regions.register("r", "tensors", 0, SIZE)

    async def scenario() -> tuple[Reply, Reply]:
        publish_fake(tmp_path / "repository")
        async with world(tmp_path / "repository", regions=regions) as w:
            first = await w.blocked()
            clients = [w.post(BODY), w.ask(3.0)]
            await w.queued(2)
            meanwhile(regions, path)
            w.script.release()
            _, one, other = await w.answers([first, *clients])
            assert len(w.script.batches[-1]["x"]) == 2
            assert one is not None
            assert other is not None
            return one, other

    try:
        return *asyncio.run(scenario()), path.read_bytes()
    finally:
        regions.unregister_all()


def test_nothing_in_the_way(tmp_path: Path) -> None:
    one, other, memory = outcomes(tmp_path, lambda regions, path: None)
    assert (one.status, values(other)) == (200, [6.0])
    assert np.frombuffer(memory, np.float32)[:4].tolist() == [21, 0, 42, 0]


def test_the_input_is_the_one_that_was_checked(tmp_path: Path) -> None:
    one, _, memory = outcomes(tmp_path, lambda regions, path: path.write_bytes(bytes(SIZE)) and None)
    assert one.status == 200
    assert np.frombuffer(memory, np.float32)[2] == 42


def renew(regions: Regions, _: Path) -> None:
    regions.unregister("r")
    regions.register("r", "tensors", 0, SIZE)


@pytest.mark.parametrize(("meanwhile", "says"), [
    (lambda regions, path: regions.unregister("r"), "was unregistered while the request ran"),
    (renew, "was unregistered while the request ran"),
    (lambda regions, path: os.truncate(path, 4), "has shrunk to 4 bytes"),
], ids=["unregistered", "registered anew", "truncated"])  # fmt: skip
def test_memory_that_is_gone_fails_its_request_only_and_is_not_written(
    tmp_path: Path, meanwhile: Callable[[Regions, Path], None], says: str
) -> None:
    one, other, memory = outcomes(tmp_path, meanwhile)
    assert (one.status, says in one.error) == (400, True)
    assert values(other) == [6.0]
    assert not any(memory[4:])
