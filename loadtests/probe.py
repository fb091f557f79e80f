"""One job, run again and again at different rates: what a single run, the search for capacity and a sweep share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from loadtests.job import Job
from loadtests.load import Generator, Loaded, load
from loadtests.progress import Progress
from loadtests.result import result


@dataclass(frozen=True, slots=True)
class Prober:
    """A job, its generator and the server's pid; each run shows its progress."""

    job: Job
    generator: Generator
    server_pid: int | None
    configuration: Mapping[str, Any]

    def load(self, rate: float | None, duration_s: float, seed: int) -> Loaded:
        """One load, of a recorded one what `duration_s` has room for."""
        duration_s = self.job.span_s(duration_s)
        traffic = self.job.traffic(rate, duration_s, seed)
        with Progress(len(traffic.due_s), duration_s) as progress:
            return load(
                self.job.target.address,
                [traffic],
                replace(self.generator, protocol=self.job.target.protocol),
                duration_s=duration_s,
                server_pid=self.server_pid,
                on_tick=progress,
            )

    def run(self, rate: float | None, duration_s: float, seed: int) -> dict[str, Any]:
        """One load as a result."""
        return result(self.load(rate, duration_s, seed), self.configuration)
