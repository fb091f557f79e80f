"""What a task may take, and what a group of processes takes now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TIME_S = 600.0
_SHARE = 0.75
_LIKELY_BYTES = 8 << 30
_PROC = Path("/proc")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of each task: wall time, and resident memory of its process and all that it starts."""

    time_s: float
    memory_bytes: int


def usual_memory_bytes() -> int:
    """Three quarters of what the machine, or the container, has."""
    total = _LIKELY_BYTES
    meminfo = _PROC / "meminfo"
    if meminfo.exists():
        total = next(int(line.split()[1]) << 10 for line in meminfo.read_text().splitlines() if line.startswith("MemTotal"))
    text = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return int(_SHARE * min(total, int(text) if text.isdecimal() else total))


def resident_bytes_of_group(group: int) -> int:
    """Resident memory of all processes of a group; pages that they share count for each."""
    return sum(_resident_bytes(int(name)) for name in os.listdir(_PROC) if name.isdecimal() and _group_of(int(name)) == group)


def peak_resident_bytes() -> int:
    """The most that this process ever had resident; 0 where the system does not tell."""
    status = _PROC / "self" / "status"
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


def _group_of(process: int) -> int | None:
    """None when the process has just ended."""
    try:
        text = (_PROC / str(process) / "stat").read_text(errors="replace")
    except OSError:  # it is gone
        return None
    return int(text.rpartition(")")[2].split()[2])


def _resident_bytes(process: int) -> int:
    try:
        return int((_PROC / str(process) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # it is gone
        return 0
