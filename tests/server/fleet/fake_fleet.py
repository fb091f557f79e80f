"""A supervisor with fake children; `python -m tests.server.fleet.fake_fleet FOLDER` runs one and prints what it calls."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from server.fleet.child import Orders
from server.fleet.supervisor import Post, Supervisor
from server.runtime.clock import monotonic_clock
from tests.child_server import wait_until

LIMIT_S = 30.0


def book(folder: Path, name: str) -> list[tuple[str, int, float]]:
    """What a child's bearers noted: what, process, when."""
    path = folder / name
    lines = path.read_text().splitlines() if path.exists() else []
    return [(what, int(process), float(at)) for what, process, at in map(str.split, lines)]


@dataclass(slots=True)
class Fleet:
    """A supervisor, and what its children and it wrote."""

    folder: Path
    supervisor: Supervisor
    calls: list[str] = field(default_factory=list)

    def book(self, name: str) -> list[tuple[str, int, float]]:
        return book(self.folder, name)

    def pid(self, name: str) -> int:
        return [process for what, process, _ in self.book(name) if what == "began"][-1]

    def began(self, name: str) -> int:
        return len([1 for what, _, _ in self.book(name) if what == "began"])

    async def reaches(self, true: Callable[[], bool]) -> None:
        await asyncio.to_thread(wait_until, true, "the state", LIMIT_S)


def fleet(folder: Path, engine: str = "good", fronts: tuple[str, ...] = ("good", "good"), patience_s: float = 20.0) -> Fleet:
    def post(name: str, kind: str) -> Post:
        return Post([sys.executable, "-m", "tests.server.fleet.fake_child", kind], Orders(name, {}, str(folder)))

    posts = [post(f"front{number}", kind) for number, kind in enumerate(fronts)]
    return Fleet(folder, Supervisor(post("engine", engine), posts, monotonic_clock, patience_s))


def main(folder: Path) -> int:
    def say(what: str) -> None:
        print(what, flush=True)

    return asyncio.run(fleet(folder).supervisor.run(lambda: say("serving"), lambda: say("closing")))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
