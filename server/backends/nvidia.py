"""The NVIDIA cards of this machine, as the driver's management library (NVML) describes them. No CUDA library is loaded for that, and
nothing is allocated on a card."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import NamedTuple

from server.contract.accelerator import Accelerator

EXTRA = "gpu"


class Card(NamedTuple):
    """One card. `bus_id`: its place in the machine, as CUDA names it, too."""

    accelerator: Accelerator
    memory_bytes: int
    bus_id: str


class Cards(NamedTuple):
    """All cards in the driver's order. `reason`: why there are none, and what to do; "" where there are some."""

    found: tuple[Card, ...]
    reason: str = ""

    def at(self, bus_id: str) -> Card | None:
        """The card in that place; None: the driver does not know it."""
        return next((card for card in self.found if _same_place(card.bus_id, bus_id)), None)


@cache
def find_cards() -> Cards:
    """Asks once: cards do not change while a process runs."""
    nvml = _library()
    if nvml is None:
        return Cards((), f"nvidia-ml-py is not installed: pip install 'ferry-serving[{EXTRA}]'")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Cards((), f"the NVIDIA driver does not answer: {error}")
    try:
        found = tuple(_card(nvml, place) for place in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError as error:
        return Cards((), f"the NVIDIA driver does not describe its cards: {error}")
    finally:
        nvml.nvmlShutdown()
    return Cards(found, "" if found else "the NVIDIA driver has no card")


def _card(nvml: ModuleType, place: int) -> Card:
    handle = nvml.nvmlDeviceGetHandleByIndex(place)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    cuda: int = nvml.nvmlSystemGetCudaDriverVersion()
    accelerator = Accelerator(
        nvml.nvmlDeviceGetName(handle),
        f"{major}.{minor}",
        nvml.nvmlSystemGetDriverVersion(),
        f"{cuda // 1000}.{cuda % 1000 // 10}",
    )
    bus_id: str | bytes = nvml.nvmlDeviceGetPciInfo(handle).busId  # bytes or text, by the library's release
    place_in_machine = bus_id if isinstance(bus_id, str) else bus_id.decode()
    return Card(accelerator, nvml.nvmlDeviceGetMemoryInfo(handle).total, place_in_machine)


def _same_place(one: str, other: str) -> bool:
    """The driver writes the domain with eight digits, CUDA with four."""
    return one.lower().lstrip("0") == other.lower().lstrip("0")


def _library() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml  # type: ignore[no-any-return]  # it has no types
