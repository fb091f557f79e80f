"""Tasks for the tests of isolation: each does one kind of harm. Importable, because the other process must find them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import OptimizeError, StageFailed
from optimizer.stages.base import Result
from server.intake.measure import Progress


@dataclass(frozen=True)
class Harm:
    """Does `kind`, or writes a file and ends well."""

    kind: str

    def __call__(self, out: Path, progress: Progress) -> Result:
        progress(f"about to {self.kind}", 0, 1)
        print(f"this is {self.kind}")
        HARMS[self.kind](out)
        (out / "made.txt").write_text("made", encoding="utf-8")
        return Result("well", None, {"process": os.getpid()})


def _abort(_: Path) -> None:
    os.abort()


def _hang(out: Path) -> None:
    """With a child of its own, which must not survive either."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (out.parent.parent / "grandchild").write_text(str(child.pid), encoding="utf-8")
    while True:
        time.sleep(0.01)


def _eat(_: Path) -> None:
    eaten = []
    while len(eaten) < 60:  # 3 GB: should nobody stop it, the machine survives
        eaten.append(b"x" * 50_000_000)
        time.sleep(0.02)


def _raise(_: Path) -> None:
    raise ValueError("no such luck")


def _interrupt(_: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started all of us with the signal ignored
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def _exit(_: Path) -> None:
    sys.exit(0)


def _leave(_: Path) -> None:
    os._exit(0)


def _fail(_: Path) -> None:
    raise StageFailed("the tool cannot do that", "its log")


def _refuse(_: Path) -> None:
    raise OptimizeError("unknown option")


def _nothing(_: Path) -> None:
    pass


HARMS = {
    "abort": _abort, "hang": _hang, "eat": _eat, "raise": _raise, "interrupt": _interrupt, "exit": _exit, "leave": _leave,
    "fail": _fail, "refuse": _refuse, "nothing": _nothing,
}  # fmt: skip
