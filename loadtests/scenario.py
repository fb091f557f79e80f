"""Scenarios: small TOML files that say what several kinds of traffic do at once, and what happens to the server meanwhile.

`factor` is a multiple of --rate, `slo_factor` of --slo; without a model of its own, traffic asks for --model.
"""

from __future__ import annotations

import argparse
import dataclasses
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from loadtests import flags
from loadtests.errors import BadInput, LoadTestError
from loadtests.job import Job, Wanted, make_ready
from loadtests.listening import server_pid
from loadtests.load import load
from loadtests.progress import Progress
from loadtests.protocols import Protocol
from loadtests.result import result
from loadtests.slow_clients import slow_clients
from loadtests.target import Target, post, target

FOLDER = Path(__file__).parent / "scenarios"
_TRAFFIC = {
    "name": str, "model": str, "arrivals": str, "lengths": str, "binary": bool, "rows": int, "rate": (int, float),
    "factor": (int, float), "start_s": (int, float), "slo_ms": (int, float), "slo_factor": (int, float), "input": str,
}  # fmt: skip
_ACTION = {"at_s": (int, float), "post": str, "body": str}
_SLOW = {"n": int, "request_s": (int, float)}
_TOP = {
    "title": str, "duration_s": (int, float), "preflight": bool, "before": list, "traffic": list, "action": list, "slow_clients": dict,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Action:
    """A POST to the server at a moment of the run; `{model}` in its path is the first traffic's model."""

    at_s: float
    path: str
    body: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """A file, checked."""

    title: str
    duration_s: float | None
    preflight: bool
    before: Sequence[str]
    traffic: Sequence[Mapping[str, Any]]
    actions: Sequence[Action]
    slow: Mapping[str, Any] | None


def names() -> list[str]:
    """The scenarios that come along."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def read(text: str) -> Scenario:
    """A scenario by its name or file. Raises BadInput."""
    file = Path(text) if text.endswith(".toml") else FOLDER / f"{text}.toml"
    try:
        found = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"scenario {text!r}: {error}; those that come along are {', '.join(names())}") from error
    _check(text, found, _TOP)
    for one in found.get("traffic", []):
        _check(f"{text}: traffic", one, _TRAFFIC)
    for one in found.get("action", []):
        _check(f"{text}: action", one, _ACTION)
    _check(f"{text}: slow_clients", found.get("slow_clients", {}), _SLOW)
    if not found.get("traffic"):
        raise BadInput(f"scenario {text!r} has no [[traffic]]")
    actions = [Action(one.get("at_s", 0.0), one.get("post", ""), one.get("body", "{}")) for one in found.get("action", [])]
    return Scenario(
        found.get("title", file.stem),
        found.get("duration_s"),
        found.get("preflight", True),
        found.get("before", []),
        found["traffic"],
        actions,
        found.get("slow_clients"),
    )


def _check(where: str, found: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if name not in known:
            raise BadInput(f"scenario {where}: unknown key {name!r}; known are {', '.join(known)}")
        if not isinstance(value, known[name]):
            raise BadInput(f"scenario {where}: {name} = {value!r} has the wrong type")


def run_scenario(args: argparse.Namespace) -> dict[str, Any]:
    """Run a scenario with the flags filling in what it leaves open; the result, with what its actions met."""
    scenario = read(args.scenario)
    wanted = _told_apart([_wanted(one, flags.wanted(args), scenario) for one in scenario.traffic])
    jobs = [make_ready(one) for one in wanted]
    desk = _desk(args, scenario, jobs[0].target)
    for path in scenario.before:
        desk.do(Action(0.0, path, "{}"))
    duration_s = scenario.duration_s or args.duration
    traffic = [job.traffic(job.wanted.rate, duration_s, args.seed + at) for at, job in enumerate(jobs)]
    noted: dict[str, Any] = {}
    with Progress(sum(len(one.due_s) for one in traffic), duration_s) as progress:
        loaded = load(
            jobs[0].target.address,
            traffic,
            dataclasses.replace(flags.generator(args), protocol=jobs[0].target.protocol),
            duration_s=duration_s,
            server_pid=server_pid(args.pid, *jobs[0].target.address),
            on_tick=progress,
            beside=lambda: _beside(scenario, jobs[0], desk, noted),
        )
    found = result(loaded, flags.plain(args)) | {"scenario": {"name": args.scenario, "title": scenario.title} | noted}
    bad = [one for one in noted.get("actions", []) if not one["done"]]
    found["notices"] = [*found["notices"], *(f"POST {one['post']} at {one['at_s']:g} s: {one['answer']}" for one in bad)]
    return found


def _wanted(one: Mapping[str, Any], base: Wanted, scenario: Scenario) -> Wanted:
    model = one.get("model", base.model).replace("{model}", base.model)
    if not model:
        raise BadInput("which model? give --model, or `model` in the scenario")
    rate = one.get("rate")
    if rate is None and base.rate is not None:
        rate = base.rate * one.get("factor", 1.0)
    slo_s = one["slo_ms"] / 1e3 if "slo_ms" in one else base.slo_s and base.slo_s * one.get("slo_factor", 1.0)
    same = {name: one[name] for name in ("name", "arrivals", "lengths", "binary", "rows", "start_s") if name in one}
    file = {"input": Path(one["input"])} if "input" in one else {}
    changed: dict[str, Any] = {"model": model, "rate": rate, "slo_s": slo_s, "preflight": scenario.preflight, **same, **file}
    return dataclasses.replace(base, **changed)


def _told_apart(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Each with a name, its model's where it has none; of several with one name the others get their number: each has its own line."""
    named: dict[str, Wanted] = {}
    for one in wanted:
        base = one.name or one.model
        name = next(name for name in chain([base], (f"{base} ({n})" for n in count(2))) if name not in named)
        named[name] = dataclasses.replace(one, name=name)
    return list(named.values())


@contextmanager
def _beside(scenario: Scenario, job: Job, desk: _Desk, noted: dict[str, Any]) -> Iterator[None]:
    """What happens beside the traffic: actions at their times, and slow clients."""
    stop = threading.Event()
    done: list[dict[str, Any]] = []
    thread = threading.Thread(target=_act, args=(scenario.actions, desk, done, stop), daemon=True)
    with ExitStack() as stack:
        if scenario.slow is not None:
            n, request_s = scenario.slow.get("n", 16), scenario.slow.get("request_s", 5.0)
            counts = stack.enter_context(slow_clients(job.target.address, job.requests[0], n, request_s))
        thread.start()
        yield
        stop.set()
        thread.join()
    if scenario.slow is not None:
        noted["slow_clients"] = dataclasses.asdict(counts)
    if scenario.actions:
        noted["actions"] = done


def _act(actions: Sequence[Action], desk: _Desk, done: list[dict[str, Any]], stop: threading.Event) -> None:
    started_at = time.perf_counter()
    for one in sorted(actions, key=lambda action: action.at_s):
        if stop.wait(max(0.0, started_at + one.at_s - time.perf_counter())):
            return
        try:
            answer, fine = desk.do(one), True
        except LoadTestError as error:
            answer, fine = str(error), False
        took_s = time.perf_counter() - started_at - one.at_s
        done.append({"at_s": one.at_s, "post": one.path, "done": fine, "answer": answer, "took_s": took_s})


@dataclass(frozen=True, slots=True)
class _Desk:
    """Where actions are posted, and as whom."""

    to: Target
    token: str | None

    def do(self, one: Action) -> str:
        """What was answered. Raises LoadTestError."""
        path = one.path.replace("{model}", self.to.model)
        response = post(self.to, path, one.body.encode(), self.token or self.to.key)
        if response.status == 401:
            raise BadInput(f"POST {one.path}: status 401: give --admin-token or set {flags.ADMIN_TOKEN}")
        if response.status >= 300:
            raise BadInput(f"POST {one.path}: status {response.status}: {response.body[:200].decode(errors='replace')}")
        return f"status {response.status}"


def _desk(args: argparse.Namespace, scenario: Scenario, to: Target) -> _Desk:
    admin = to if args.admin_url is None else target(args.admin_url, to.model, key=to.key)
    over_http = admin.protocol is Protocol.HTTP
    if (scenario.before or scenario.actions) and not over_http:
        raise BadInput(
            f"scenario {args.scenario!r} posts to the server: give --admin-url http://HOST:PORT beside --url grpc://"
        )
    if scenario.slow is not None and to.protocol is not Protocol.HTTP:
        raise BadInput(f"scenario {args.scenario!r} has slow clients, and they speak HTTP only: use --url http://HOST:PORT")
    return _Desk(admin, flags.admin_token(args))
