"""The cards as the driver's library describes them, and every reason why there are none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from server.backends.nvidia import Card, CardReader, CardReading, find_cards, open_reader
from server.contract.accelerator import Accelerator


class Nvml:
    """Stands for the module: so many cards, or a driver that fails."""

    class NVMLError(Exception):
        """As the real one."""

    def __init__(self, n_cards: int = 1, fails: str = "", bus_id: str | bytes = "00000000:17:00.0") -> None:
        self.n_cards, self.fails, self.bus_id = n_cards, fails, bus_id
        self.n_open = 0

    def nvmlInit(self) -> None:
        self._call("nvmlInit")
        self.n_open += 1

    def nvmlShutdown(self) -> None:
        self.n_open -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._call("nvmlDeviceGetCount")
        return self.n_cards

    def nvmlDeviceGetHandleByIndex(self, place: int) -> int:
        return place

    def nvmlDeviceGetCudaComputeCapability(self, _handle: int) -> tuple[int, int]:
        return 9, 0

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 13010

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"Card {handle}"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.2"

    def nvmlDeviceGetMemoryInfo(self, _handle: int) -> Any:
        self._call("nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(total=80 * 10**9, used=3 * 10**9)

    def nvmlDeviceGetUUID(self, handle: int) -> str | bytes:
        return f"GPU-{handle}" if isinstance(self.bus_id, str) else f"GPU-{handle}".encode()

    def nvmlDeviceGetUtilizationRates(self, _handle: int) -> Any:
        self._call("nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=40, memory=7)

    def nvmlDeviceGetPowerUsage(self, _handle: int) -> int:
        self._call("nvmlDeviceGetPowerUsage")
        return 312_500

    def nvmlDeviceGetPowerManagementLimit(self, _handle: int) -> int:
        self._call("nvmlDeviceGetPowerManagementLimit")
        return 700_000

    def nvmlDeviceGetPciInfo(self, _handle: int) -> Any:
        return SimpleNamespace(busId=self.bus_id)

    def _call(self, name: str) -> None:
        if name == self.fails:
            raise self.NVMLError("Driver Not Loaded")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    find_cards.cache_clear()
    yield
    find_cards.cache_clear()


@pytest.mark.parametrize("bus_id", ["00000000:17:00.0", b"00000000:17:00.0"])
def test_describes_each_card(bus_id: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(2, bus_id=bus_id)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    cards = find_cards()
    assert [card.accelerator for card in cards.found] == [Accelerator(f"Card {n}", "9.0", "580.2", "13.1") for n in (0, 1)]
    assert cards.found[0].memory_bytes == 80 * 10**9
    assert (cards.reason, nvml.n_open) == ("", 0)


def test_a_card_is_found_by_its_place_as_cuda_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(bus_id="00000000:0A:00.0"))
    cards = find_cards()
    assert cards.at("0000:0a:00.0") == cards.found[0]
    assert cards.at("0000:0b:00.0") is None


@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (None, "nvidia-ml-py is not installed: pip install 'ferry-serving[gpu]'"),
        (Nvml(fails="nvmlInit"), "the NVIDIA driver does not answer: Driver Not Loaded"),
        (Nvml(fails="nvmlDeviceGetCount"), "the NVIDIA driver does not describe its cards: Driver Not Loaded"),
        (Nvml(0), "the NVIDIA driver has no card"),
    ],
)
def test_says_why_there_are_none(nvml: Nvml | None, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert find_cards() == ((), reason)
    assert nvml is None or nvml.n_open == 0


PLACE = "00000000:17:00.0"
CARD = Card(Accelerator("Card 0", "9.0", "580.2", "13.1"), 80 * 10**9, PLACE)


@pytest.mark.parametrize("bus_id", [PLACE, PLACE.encode()])
def test_a_card_is_read_as_often_as_somebody_wants(bus_id: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(2, bus_id=bus_id)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    reader = open_reader(CARD._replace(bus_id="0000:17:00.0"))
    assert isinstance(reader, CardReader)
    assert nvml.n_open == 1
    for _ in range(2):
        assert reader.read() == CardReading("Card 0", "GPU-0", 0.4, 3 * 10**9, 80 * 10**9, 312.5, 700.0)
    reader.close()
    assert nvml.n_open == 0


def test_what_the_driver_does_not_tell_is_none_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    reader = open_reader(CARD)
    assert isinstance(reader, CardReader)
    for fails, place in (("UtilizationRates", 2), ("PowerUsage", 5), ("PowerManagementLimit", 6)):
        nvml.fails = f"nvmlDeviceGet{fails}"
        for _ in range(2):
            reading = reader.read()
            assert [number for number, value in enumerate(reading) if value is None] == [place]
    nvml.fails = "nvmlDeviceGetMemoryInfo"
    assert reader.read()[3:5] == (None, None)
    assert [record.getMessage() for record in caplog.records] == [
        f"no metric of the card's {what}: the driver says Driver Not Loaded"
        for what in ("utilization", "power", "power limit", "memory")
    ]


@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (None, "nvidia-ml-py is not installed: pip install 'ferry-serving[gpu]'"),
        (Nvml(fails="nvmlInit"), "the NVIDIA driver does not answer: Driver Not Loaded"),
        (Nvml(fails="nvmlDeviceGetCount"), "the NVIDIA driver does not describe its cards: Driver Not Loaded"),
        (Nvml(bus_id="00000000:0A:00.0"), "the NVIDIA driver has no card at 00000000:17:00.0 any more"),
    ],
)
def test_says_why_a_card_cannot_be_read(nvml: Nvml | None, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert open_reader(CARD) == reason
    assert nvml is None or nvml.n_open == 0
