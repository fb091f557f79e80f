"""Seeded nonsense over gRPC: python -m tests.fuzz.grpc_fuzz --n 100000 --seed 0

Counts the statuses that a server of its own answers; fails on INTERNAL, UNKNOWN, a hang, or a server that is no longer well.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

from server.grpc_api import messages as pb
from tests.child_server import ChildServer
from tests.fuzz.memory import MemoryLog, write_result
from tests.fuzz.messages import affine, random_message, shared_memory_call
from tests.fuzz.shared_memory import Mischief

CALL_S = 30.0
N_CALLERS = 16
STREAM_LENGTH = 8
MOST_GROWTH_MIB = 48.0
BAD = ("INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "DATA_LOSS")
CONTROL = ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex", "ServerMetadata", "LogSettings")


async def fuzz(port: int, n: int, seed: int, memory: MemoryLog | None = None) -> Counter[str]:
    """Send `n` messages; statuses by count ("stream …" for the replies of streams). The same seed sends the same messages."""
    statuses: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        numbers = iter(range(n))
        await asyncio.gather(*(_caller(channel, numbers, seed, statuses, memory) for _ in range(N_CALLERS)))
        reply = await channel.unary_unary(f"/{pb.INFERENCE_SERVICE}/ModelInfer")(affine(), timeout=CALL_S)
        assert pb.ModelInferResponse.FromString(reply).model_name == "affine", "the server is no longer well"
    return statuses


async def _caller(
    channel: Any, numbers: Iterator[int], seed: int, statuses: Counter[str], memory: MemoryLog | None
) -> None:  # fmt: skip
    for number in numbers:
        if memory is not None:
            memory.after(number)
        rng = random.Random(f"{seed}/{number}")
        kind = rng.random()
        if kind < 0.05:
            await _stream(channel, rng, statuses)
            continue
        if kind < 0.15:
            method, data = shared_memory_call(rng)
        else:
            method, data = "ModelInfer" if kind < 0.9 else rng.choice(CONTROL), random_message(rng)
        await _count(lambda m=method, d=data: _unary(channel, m, d), statuses)


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
    parser.add_argument("--out", type=Path, help="file for the report")
    options = parser.parse_args()
    from tests.models import publish_all

    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        repository.mkdir()
        publish_all(repository)
        flags = ("--max-body-bytes", "200000", "--shared-memory", "on")
        with ChildServer(repository, Path(folder) / "log", *flags) as server, Mischief(options.seed) as mischief:
            memory, began = MemoryLog(server.process.pid, options.n), time.monotonic()
            statuses = asyncio.run(fuzz(server.grpc_port, options.n, options.seed, memory))
            took_s, grown_mib = time.monotonic() - began, memory.end()
            bugs = server.log.count("a bug in ferry") + server.log.count("Traceback")
    for name, count in statuses.most_common():
        print(f"{count:8} {name}")
    failed = bool(bugs or any(statuses[name] for name in BAD) or grown_mib > MOST_GROWTH_MIB)
    report = {
        "messages": options.n, "seed": options.seed, "verdict": "FAILED" if failed else "ok", "seconds": round(took_s, 1),
        "statuses": dict(sorted(statuses.items())), "memory": memory.readings, "grown_mib": round(grown_mib, 1),
        "objects_damaged": mischief.n_done,
    }  # fmt: skip
    print(f"seed {options.seed}: {report['verdict']}; memory {memory.readings}")
    if options.out:
        write_result(options.out, report)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
