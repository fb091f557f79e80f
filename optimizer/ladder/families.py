"""The default candidates, so that no recipe need be written: by what the graph is, and by what can be used here."""

from __future__ import annotations

from optimizer.ladder.candidate import Candidate
from server.backends.base import Backends

_BF16, _F32 = "openvino-bf16", "openvino-f32"


def default_candidates(backends: Backends) -> tuple[Candidate, ...]:
    """Cheapest and most promising first. What cannot be used here is listed, too: its reason says what to install."""
    return (_other_kernels(backends),)


def _other_kernels(backends: Backends) -> Candidate:
    """The plain export by OpenVINO, in bf16 where the processor has it."""
    if _BF16 not in backends.usable and _F32 in backends.usable:
        return Candidate("OpenVINO", (), _F32, "the same file by other kernels")
    return Candidate("OpenVINO bf16", (), _BF16, "the same file by other kernels, in half of the bits")
