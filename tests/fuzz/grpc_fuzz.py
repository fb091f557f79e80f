"""Seeded nonsense over gRPC: python -m tests.fuzz.grpc_fuzz --n 100000 --seed 0

Counts the statuses that a server of its own answers; fails on INTERNAL, UNKNOWN, a hang, or a server that is no longer well.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from server.grpc_api import messages as pb
from tests.child_server import ChildServer
from tests.fuzz.messages import affine, random_message

CALL_S = 30.0
N_CALLERS = 16
STREAM_LENGTH = 8
BAD = ("INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "DATA_LOSS")
CONTROL = ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex", "ServerMetadata", "LogSettings")


async def fuzz(port: int, n: int, seed: int) -> Counter[str]:
    """Send `n` messages; statuses by count ("stream …" for the replies of streams). The same seed sends the same messages."""
    statuses: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        numbers = iter(range(n))
        await asyncio.gather(*(_caller(channel, numbers, seed, statuses) for _ in range(N_CALLERS)))
        reply = await channel.unary_unary(f"/{pb.INFERENCE_SERVICE}/ModelInfer")(affine(), timeout=CALL_S)
        assert pb.ModelInferResponse.FromString(reply).model_name == "affine", "the server is no longer well"
    return statuses


async def _caller(channel: Any, numbers: Iterator[int], seed: int, statuses: Counter[str]) -> None:
    for number in numbers:
        rng = random.Random(f"{seed}/{number}")
        kind = rng.random()
        if kind < 0.05:
            await _stream(channel, rng, statuses)
            continue
        method = "ModelInfer" if kind < 0.9 else rng.choice(CONTROL)
        await _count(lambda m=method, r=rng: _unary(channel, m, random_message(r)), statuses)


async def _unary(channel: Any, method: str, data: bytes) -> None:
    await channel.unary_unary(f"/{pb.INFERENCE_SERVICE}/{method}")(data, timeout=CALL_S)


async def _stream(channel: Any, rng: random.Random, statuses: Counter[str]) -> None:
    messages = [random_message(rng) for _ in range(STREAM_LENGTH)]

    async def ask() -> None:
        call = channel.stream_stream(f"/{pb.INFERENCE_SERVICE}/ModelStreamInfer")(iter(messages), timeout=CALL_S)
        replies = [pb.ModelStreamInferResponse.FromString(reply) async for reply in call]
        assert len(replies) == STREAM_LENGTH, "a stream's request got no reply"
        for reply in replies:
            assert "internal error" not in reply.error_message, reply.error_message
            statuses["stream error" if reply.error_message else "stream OK"] += 1

    await _count(ask, statuses)


async def _count(ask: Callable[[], Any], statuses: Counter[str]) -> None:
    try:
        await ask()
        statuses["OK"] += 1
    except grpc.aio.AioRpcError as error:
        statuses[error.code().name] += 1


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.fuzz.grpc_fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="messages (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    options = parser.parse_args()
    from tests.models import publish_all

    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        repository.mkdir()
        publish_all(repository)
        with ChildServer(repository, Path(folder) / "log", "--max-body-bytes", "200000") as server:
            statuses = asyncio.run(fuzz(server.grpc_port, options.n, options.seed))
            bugs = server.log.count("a bug in ferry")
    for name, count in statuses.most_common():
        print(f"{count:8} {name}")
    failed = bugs or any(statuses[name] for name in BAD)
    print(f"seed {options.seed}: {'FAILED' if failed else 'ok'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
