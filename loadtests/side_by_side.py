"""Two or more versions of a model, served side by side and asked the same: on which terms, how they are started, what one is found to sustain."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from loadtests.arrivals import parse_shape
from loadtests.call import call
from loadtests.capacity import Found, find_capacity
from loadtests.child import HOST, Child, free_port, running
from loadtests.errors import MissingData
from loadtests.job import Job, Wanted
from loadtests.lanes import Lane
from loadtests.load import Generator
from loadtests.probe import Prober
from loadtests.published import copy_of
from loadtests.target import target
from loadtests.tensors import Array


@dataclass(frozen=True, slots=True)
class Terms:
    """How a model is asked, and what is claimed of the optimizer. `least_rate`: times the plain export's, within the objective;
    `least_smaller`: times its size; `least_cosine`: mean over the rows that are asked."""

    slo_s: float
    connections: int
    binary: bool
    least_rate: float
    least_cosine: float
    least_smaller: float = 0.0


_REFUSED = 503
_MOST_REFUSALS = 50

TERMS: Mapping[str, Terms] = {
    "digits": Terms(0.05, 64, False, 1.0, 0.999, 3.0),
    "resnet18": Terms(0.5, 8, True, 5.0, 0.999),
    "minilm": Terms(0.25, 16, False, 2.2, 0.999),
}


def terms_of(name: str) -> Terms:
    """Raises MissingData for a model that has none."""
    try:
        return TERMS[name]
    except KeyError:
        raise MissingData(f"--models {name}: known are {', '.join(TERMS)}") from None


def served(command: str, file: Path, scratch: Path, terms: Terms) -> AbstractContextManager[Child]:
    """A server that holds the version of this model file alone, copied into the folder `scratch`, under the terms' objective."""
    copy_of(file.parent, scratch, terms.slo_s)
    return serving(command, scratch)


def serving(command: str, repository: Path) -> AbstractContextManager[Child]:
    """A server of `command` that holds `repository`."""
    port = free_port()
    flags = ["--repository", str(repository), "--host", HOST, "--port", str(port), "--metrics-port", "0"]
    return running([*shlex.split(command), *flags], port, ready_path="/v2/health/ready")


def asked(lane: Lane, request: bytes) -> Mapping[str, Array]:
    """One request, alone; again where it was refused, since a tight objective can be missed on an idle server as well.

    Raises ServerError, MalformedReply, CannotConnect.
    """
    for _ in range(_MOST_REFUSALS):
        reply = call(HOST, lane.server.port, request, protocol=lane.protocol)
        if reply.status != _REFUSED:
            break
    return lane.protocol.decode(reply)


def capacity(lane: Lane, model: str, slo_s: float, probe_s: float, closed_per_s: float) -> Found:
    """The highest Poisson rate of `lane` within the objective. `closed_per_s`: what it does in a closed loop, where the search begins."""
    wanted = Wanted(f"http://{HOST}:{lane.server.port}", model, slo_s=slo_s)
    job = Job(wanted, target(wanted.url, model), lane.requests, parse_shape("poisson"), None)
    prober = Prober(job, Generator(1, 1024, max(2.0, 4 * slo_s)), lane.server.pid, {})
    found = find_capacity(prober, slo_s, probe_s, 0.9 * closed_per_s, first_step=1.12, longest_s=3 * probe_s)
    print(f"{lane.name}: {found.rate:,.1f}/s within {slo_s * 1e3:g} ms", flush=True)
    return found
