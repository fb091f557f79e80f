"""What ferry's statistics and metrics cost, and whether its p99 is what clients see: `python -m tests.measure.metrics`.

Lives here because the server without them is made of the server's own parts, which load tests may not know.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.arrivals import parse_shape, schedule
from loadtests.call import call
from loadtests.child import HOST, Child, free_port, running
from loadtests.environment import environment
from loadtests.inputs import random_rows
from loadtests.lanes import Lane, Sample, measure
from loadtests.open_loop import Driven, Plan, drive
from loadtests.report import write_json
from loadtests.target import metadata, target
from loadtests.wire import get_request, infer_request

WINDOW_S = 30.0
"""What the server's p99 gauge looks back on."""

_SERVERS = {"on": ("server.cli",), "off": ("tests.measure.serve_without_metrics",)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.measure.metrics", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--out", type=Path, default=Path("loadtests/results"))
    parser.add_argument("--costly", default="digits", help="the model whose requests are cheapest: metrics weigh most there")
    parser.add_argument("--steady", default="minilm:40", help="model and rate of the comparison of p99")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--round-s", type=float, default=2.0)
    options = parser.parse_args(arguments)
    samples = cost(options.repository, options.costly, options.rounds, options.round_s)
    ratio = statistics.median(on.cpu_us / off.cpu_us for on, off in zip(samples["on"], samples["off"], strict=True))
    cpu_us = {name: statistics.median(one.cpu_us for one in rounds) for name, rounds in samples.items()}
    print(f"CPU per request: {cpu_us['on']:.1f} us with metrics, {cpu_us['off']:.1f} us without, ratio {ratio:.3f}")
    model, _, rate = options.steady.partition(":")
    agreement = p99(options.repository, model, float(rate))
    print(f"p99 of {model} at {rate}/s: server {agreement['server_ms']:.2f} ms, client {agreement['client_ms']:.2f} ms "
          f"({agreement['server_ms'] / agreement['client_ms'] - 1:+.1%})")  # fmt: skip
    content = {
        "command": " ".join(["python", "-m", "tests.measure.metrics", *sys.argv[1:]]),
        "environment": environment(),
        "cost": {"model": options.costly, "connections": 64, "ratio": ratio, "cpu_us": cpu_us}
        | {name: [asdict(one) for one in rounds] for name, rounds in samples.items()},
        "p99": agreement,
    }
    print(f"written: {write_json(options.out, 'metrics', content)}")
    return 0


@contextmanager
def served(module: Sequence[str], repository: Path) -> Iterator[Child]:
    """A running server; `module`: the module that serves, and its own arguments."""
    port = free_port()
    flags = ["serve", "--repository", str(repository), "--port", str(port), "--grpc-port", "off", "--metrics-port", "0"]
    with running([sys.executable, "-m", *module, *flags], port, ready_path="/v2/health/ready") as server:
        yield server


def requests_for(server: Child, model: str, lengths: Sequence[int]) -> list[bytes]:
    rows = random_rows(metadata(target(f"http://{HOST}:{server.port}", model)), lengths, 1, 0)
    return [infer_request(HOST, model, row, binary=False) for row in rows]


def cost(repository: Path, model: str, rounds: int, round_s: float) -> dict[str, list[Sample]]:
    """The server with and without, in turn, in a closed loop of 64 connections."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(served(module, repository)) for name, module in _SERVERS.items()}
        lanes = [Lane(name, server, requests_for(server, model, [16] * 64), 64) for name, server in servers.items()]
        for lane in lanes:
            measure(lane, 1.0)
        samples: dict[str, list[Sample]] = {lane.name: [] for lane in lanes}
        for at in range(rounds):
            for lane in lanes if at % 2 else reversed(lanes):
                samples[lane.name].append(measure(lane, round_s))
        return samples


def p99(repository: Path, model: str, rate: float) -> dict[str, Any]:
    """Poisson arrivals for somewhat longer than the window; then both sides' p99 over the window."""
    duration_s = WINDOW_S + 5.0
    with served(("server.cli",), repository) as server:
        lengths = np.random.default_rng(0).lognormal(np.log(30), 0.6, 256).clip(3, 200).astype(int).tolist()
        requests = requests_for(server, model, lengths)
        due_s = schedule(*parse_shape("poisson"), rate, duration_s, 0)
        which = np.random.default_rng(1).integers(0, len(requests), len(due_s))
        found = drive((HOST, server.port), Plan(due_s.tolist(), which.tolist(), requests, 10.0, 256, 8), start_at=_soon())
        page = call(HOST, server.port, get_request(f"{HOST}:{server.port}", "/metrics")).body.decode()
    server_s = _gauge(page, "ferry_request_p99_seconds", model)
    return _sides(found, server_s) | {"model": model, "rate": rate, "window_s": WINDOW_S}


def _soon() -> float:
    return time.perf_counter() + 0.1


def _sides(found: Driven, server_s: float) -> dict[str, Any]:
    record = found.record
    last_s = float(np.nanmax(record.done_s))
    recent = (record.status == 200) & (record.done_s >= last_s - WINDOW_S)
    sent = record.done_s[recent] - record.sent_s[recent]
    return {
        "server_ms": server_s * 1e3,
        "client_ms": float(np.quantile(sent, 0.99)) * 1e3,
        "client_from_intended_ms": float(np.quantile(record.latency_s[recent], 0.99)) * 1e3,
        "n": int(recent.sum()),
        "n_not_answered": int((record.status != 200).sum()),
    }


def _gauge(page: str, name: str, model: str) -> float:
    (line,) = [one for one in page.splitlines() if one.startswith(f'{name}{{model="{model}"')]
    return float(line.rpartition(" ")[2])


if __name__ == "__main__":
    sys.exit(main())
