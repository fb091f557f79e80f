"""The server's memory in the course of a run, and the file that tells of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests.cpu import memory
from loadtests.environment import environment

PACKAGES = ("numpy", "onnxruntime", "orjson", "uvicorn", "uvloop", "httptools", "grpcio", "protobuf")


class MemoryLog:
    """Readings at the start, after a tenth of the run, and at the end."""

    def __init__(self, pid: int, n: int) -> None:
        self._pid = pid
        self._tenth = n // 10
        self.readings: dict[str, dict[str, float]] = {}
        self._read("start")

    def after(self, n_done: int) -> None:
        """To be told of every progress."""
        if n_done >= self._tenth and "tenth" not in self.readings:
            self._read("tenth")

    def end(self) -> float:
        """Growth from a tenth of the run to its end, in MiB of resident memory."""
        self._read("end")
        return self.readings["end"]["rss_mib"] - self.readings.get("tenth", self.readings["end"])["rss_mib"]

    def _read(self, when: str) -> None:
        found = memory(self._pid)
        self.readings[when] = {"rss_mib": round(found.rss / 2**20, 1), "pss_mib": round((found.pss or 0) / 2**20, 1)}


def write_result(path: Path, report: Mapping[str, Any]) -> None:
    """`report` with the command, the time and the environment beside it."""
    command = "python -m " + " ".join([f"tests.fuzz.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    content = {
        "command": command, "ended_at": datetime.now(UTC).isoformat(timespec="seconds"), "environment": environment(PACKAGES),
        **report,
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1) + "\n")
