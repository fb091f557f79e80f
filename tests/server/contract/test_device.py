"""The fingerprint of a machine."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from server.contract import device
from server.contract.accelerator import Accelerator
from server.contract.device import Device, this_device
from server.contract.errors import ContractError
from server.contract.fields import Fields

A_CHIP = Device("A chip", 2, "onnxruntime 1.0")
A_CARD = Accelerator("A card", "9.0", "570.1", "12.8")
WITH_A_CARD = replace(A_CHIP, accelerator=A_CARD)


@pytest.mark.parametrize("device", [A_CHIP, WITH_A_CARD])
def test_round_trip(device: Device) -> None:
    assert Device.from_json(Fields(device.to_json(), "here")) == device


def test_without_a_card_it_is_written_as_older_servers_read_it() -> None:
    assert A_CHIP.to_json() == {"processor": "A chip", "cores": 2, "runtime": "onnxruntime 1.0"}


def test_refuses_unknown_fields() -> None:
    known = "accelerator, cores, processor, runtime"
    with pytest.raises(ContractError, match=f"here: unknown field 'gpu'; the known fields are {known}"):
        Device.from_json(Fields({**A_CHIP.to_json(), "gpu": "none"}, "here"))


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (A_CHIP, None),
        (Device("B chip", 2, "onnxruntime 1.0"), "processor is 'B chip' here, 'A chip' there"),
        (Device("A chip", 4, "onnxruntime 1.0"), "cores is 4 here, 2 there"),
        (WITH_A_CARD, "the card is 'A card' here, none there"),
        (Device("A chip", 2, "onnxruntime 2.0"), "runtime is 'onnxruntime 2.0' here, 'onnxruntime 1.0' there"),
    ],
)
def test_names_the_first_difference(other: Device, difference: str | None) -> None:
    assert A_CHIP.difference(other) == difference


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (A_CARD, None),
        (None, "the card is none here, 'A card' there"),
        (replace(A_CARD, name="B card"), "the card is 'B card' here, 'A card' there"),
        (replace(A_CARD, driver="580.2"), "the card's driver is '580.2' here, '570.1' there"),
        (replace(A_CARD, cuda="13.0"), "the driver's CUDA is '13.0' here, '12.8' there"),
    ],
)
def test_names_how_the_cards_differ(other: Accelerator | None, difference: str | None) -> None:
    assert WITH_A_CARD.difference(replace(A_CHIP, accelerator=other)) == difference


def test_this_device_counts_the_cores_it_may_use() -> None:
    here = this_device("runtime 1")
    assert here.cores == len(os.sched_getaffinity(0))
    assert here.runtime == "runtime 1"
    assert here.processor


@pytest.mark.parametrize(
    ("cpuinfo", "processor"),
    [("vendor: x\nmodel name\t: A chip @ 2 GHz\n", "A chip @ 2 GHz"), ("vendor: x\n", "fallback"), (None, "fallback")],
)
def test_processor_from_cpuinfo_or_platform(
    cpuinfo: str | None, processor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(device, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "fallback")
    assert this_device("r").processor == processor
