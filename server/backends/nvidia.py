"""The NVIDIA cards of this machine, as the driver's management library (NVML) describes them. No CUDA library is loaded for that, and
nothing is allocated on a card."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from server.contract.accelerator import Accelerator

log = logging.getLogger(__name__)

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


class CardReading(NamedTuple):
    """A card as it is now; None: the driver does not tell (of a part of a card it may tell less). `utilization`: share of its last sample
    period, a second at most, in which anything was calculated, 0 to 1."""

    name: str
    uuid: str
    utilization: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    power_w: float | None
    power_limit_w: float | None


class CardReader:
    """Asks the driver about one card, as often as somebody wants to know. For several threads."""

    def __init__(self, nvml: ModuleType, handle: Any) -> None:
        """`nvml`: initialized, until `close`."""
        self._nvml, self._handle = nvml, handle
        self._name: str = nvml.nvmlDeviceGetName(handle)
        self._uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        self._told: set[str] = set()

    def read(self) -> CardReading:
        """Does not raise: what the driver does not tell is None, and the log says so once."""
        nvml = self._nvml
        rates = self._ask("utilization", nvml.nvmlDeviceGetUtilizationRates)
        memory = self._ask("memory", nvml.nvmlDeviceGetMemoryInfo)
        power_mw = self._ask("power", nvml.nvmlDeviceGetPowerUsage)
        limit_mw = self._ask("power limit", nvml.nvmlDeviceGetPowerManagementLimit)
        return CardReading(
            self._name, self._uuid,
            None if rates is None else rates.gpu / 100,
            None if memory is None else memory.used,
            None if memory is None else memory.total,
            None if power_mw is None else power_mw / 1000,
            None if limit_mw is None else limit_mw / 1000,
        )  # fmt: skip

    def close(self) -> None:
        """Let the driver's library go; nothing may be read afterwards."""
        self._nvml.nvmlShutdown()

    def _ask(self, what: str, function: Callable[[Any], Any]) -> Any:
        try:
            return function(self._handle)
        except self._nvml.NVMLError as error:
            if what not in self._told:
                self._told.add(what)
                log.warning("no metric of the card's %s: the driver says %s", what, error)
            return None


def open_reader(card: Card) -> CardReader | str:
    """For a card that find_cards has found, or why the driver does not tell of it any more."""
    nvml = _library()
    if nvml is None:
        return f"nvidia-ml-py is not installed: pip install 'ferry-serving[{EXTRA}]'"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return f"the NVIDIA driver does not answer: {error}"
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(place) for place in range(nvml.nvmlDeviceGetCount())]
        handle = next((one for one in handles if _same_place(_bus_id(nvml, one), card.bus_id)), None)
        if handle is not None:
            return CardReader(nvml, handle)
        reason = f"the NVIDIA driver has no card at {card.bus_id} any more"
    except nvml.NVMLError as error:
        reason = f"the NVIDIA driver does not describe its cards: {error}"
    nvml.nvmlShutdown()
    return reason


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
    return Card(accelerator, nvml.nvmlDeviceGetMemoryInfo(handle).total, _bus_id(nvml, handle))


def _bus_id(nvml: ModuleType, handle: Any) -> str:
    return _text(nvml.nvmlDeviceGetPciInfo(handle).busId)


def _text(found: str | bytes) -> str:
    """Bytes or text, by the library's release."""
    return found if isinstance(found, str) else found.decode()


def _same_place(one: str, other: str) -> bool:
    """The driver writes the domain with eight digits, CUDA with four."""
    return one.lower().lstrip("0") == other.lower().lstrip("0")


def _library() -> ModuleType | None:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml  # type: ignore[no-any-return]  # it has no types
