"""What a refused request costs beside an accepted one, in CPU of the server: `python -m tests.measure.refusals`.

Refused unread, for having waited too long, and before a crowd; both by a server that is made to (`serve_refusing`), interleaved with one that accepts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from loadtests.environment import environment
from loadtests.lanes import Lane, Sample, measure
from loadtests.report import write_json
from tests.measure.metrics import requests_for, served

CONNECTIONS = 64
_SERVERS = {
    "accepted": ("server.cli",),
    "too old": ("tests.measure.serve_refusing", "old"),
    "crowd": ("tests.measure.serve_refusing", "crowd"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.measure.refusals", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"))
    parser.add_argument(
        "--model", default="digits", help="the cheaper its requests, the harder for a refusal to be cheaper still"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--round-s", type=float, default=1.5)
    options = parser.parse_args(arguments)
    rounds = cost(options.repository, options.model, options.rounds, options.round_s)
    cpu_us = {name: statistics.median(costs) for name, costs in rounds.items()}
    ratios = {
        name: statistics.median(one / full for one, full in zip(costs, rounds["accepted"], strict=True))
        for name, costs in rounds.items()
        if name != "accepted"
    }
    print("; ".join(f"{name}: {cpu:.1f} us CPU" for name, cpu in cpu_us.items()))
    print("; ".join(f"{name} / accepted: {ratio:.2f}" for name, ratio in ratios.items()))
    content = {
        "command": " ".join(["python", "-m", "tests.measure.refusals", *sys.argv[1:]]),
        "environment": environment(),
        "model": options.model, "connections": CONNECTIONS, "cpu_us": cpu_us, "ratios": ratios, "rounds": rounds,
    }  # fmt: skip
    print(f"written: {write_json(options.out, 'refusals', content)}")
    return 0


def cost(repository: Path, model: str, n_rounds: int, round_s: float) -> dict[str, list[float]]:
    """CPU in microseconds per reply, by server and round."""
    with ExitStack() as stack:
        lanes = []
        for name, module in _SERVERS.items():
            server = stack.enter_context(served(module, repository))
            lanes.append(Lane(name, server, requests_for(server, model, [16] * 64), CONNECTIONS))
        rounds: dict[str, list[float]] = {lane.name: [] for lane in lanes}
        for _ in range(n_rounds + 1):
            for lane in lanes:
                rounds[lane.name].append(_per_reply_us(lane.name, measure(lane, round_s)))
        return {name: costs[1:] for name, costs in rounds.items()}  # the first is for warming up


def _per_reply_us(name: str, sample: Sample) -> float:
    n_replies = sample.n_answered + sample.n_refused
    wrong = sample.n_refused if name == "accepted" else sample.n_answered
    assert wrong < n_replies / 20, f"{name}: {sample}"
    return sample.cpu_us * max(1, sample.n_answered) / n_replies


if __name__ == "__main__":
    sys.exit(main())
