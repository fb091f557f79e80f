"""What machine a profile was measured on; numbers from another one are not trusted."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from server.contract.fields import Fields


@dataclass(frozen=True, slots=True)
class Device:
    """Fingerprint of processor and runtime. `cores` counts those this process may use."""

    processor: str
    cores: int
    runtime: str

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @staticmethod
    def from_json(fields: Fields) -> Device:
        fields.only(("processor", "cores", "runtime"))
        return Device(fields.text("processor"), fields.integer("cores", 1), fields.text("runtime"))

    def difference(self, other: Device) -> str | None:
        """The first thing in which `other` differs, in words, or None when the two are the same."""
        for name in ("processor", "cores", "runtime"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} is {theirs!r} here, {mine!r} there"
        return None


def this_device(runtime: str) -> Device:
    """The machine we run on; `runtime` names the inference library and its version ("onnxruntime 1.31.1")."""
    return Device(_processor(), len(os.sched_getaffinity(0)), runtime)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
