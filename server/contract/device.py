"""What machine a profile was measured on; numbers from another one are not trusted."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from server.contract.accelerator import Accelerator
from server.contract.fields import Fields


@dataclass(frozen=True, slots=True)
class Device:
    """Fingerprint of processor and runtime. `cores` counts those this process may use. `accelerator`: what calculates, where that is
    not the processor."""

    processor: str
    cores: int
    runtime: str
    accelerator: Accelerator | None = None

    def to_json(self) -> dict[str, object]:
        """The accelerator is named only where there is one, so that profiles of processors are read by older servers, too."""
        made: dict[str, object] = {"processor": self.processor, "cores": self.cores, "runtime": self.runtime}
        return made | {"accelerator": self.accelerator.to_json()} if self.accelerator else made

    @staticmethod
    def from_json(fields: Fields) -> Device:
        fields.only(Device.__slots__)
        accelerator = Accelerator.from_json(fields.child("accelerator")) if fields.has("accelerator") else None
        return Device(fields.text("processor"), fields.integer("cores", 1), fields.text("runtime"), accelerator)

    def difference(self, other: Device) -> str | None:
        """The first thing in which `other` differs, in words, or None when the two are the same."""
        for name in ("processor", "cores", "runtime"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"{name} is {theirs!r} here, {mine!r} there"
        mine, theirs = self.accelerator, other.accelerator
        if mine is not None and theirs is not None:
            return mine.difference(theirs)
        if mine != theirs:
            return f"the card is {_named(theirs)} here, {_named(mine)} there"
        return None


def this_device(runtime: str, accelerator: Accelerator | None = None) -> Device:
    """The machine we run on; `runtime` names the inference library and its version ("onnxruntime 1.31.1"), `accelerator` the card on
    which that one calculates."""
    return Device(_processor(), len(os.sched_getaffinity(0)), runtime, accelerator)


def _named(accelerator: Accelerator | None) -> str:
    return "none" if accelerator is None else repr(accelerator.name)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
