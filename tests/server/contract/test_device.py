"""The fingerprint of a machine."""

import os
from pathlib import Path

import pytest

from server.contract import device
from server.contract.device import Device, this_device
from server.contract.errors import ContractError
from server.contract.fields import Fields

A_CHIP = Device("A chip", 2, "onnxruntime 1.0")


def test_round_trip() -> None:
    assert Device.from_json(Fields(A_CHIP.to_json(), "here")) == A_CHIP


def test_refuses_unknown_fields() -> None:
    with pytest.raises(ContractError, match="here: unknown field 'gpu'; the known fields are cores, processor, runtime"):
        Device.from_json(Fields({**A_CHIP.to_json(), "gpu": "none"}, "here"))


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (A_CHIP, None),
        (Device("B chip", 2, "onnxruntime 1.0"), "processor is 'B chip' here, 'A chip' there"),
        (Device("A chip", 4, "onnxruntime 1.0"), "cores is 4 here, 2 there"),
        (Device("A chip", 2, "onnxruntime 2.0"), "runtime is 'onnxruntime 2.0' here, 'onnxruntime 1.0' there"),
    ],
)
def test_names_the_first_difference(other: Device, difference: str | None) -> None:
    assert A_CHIP.difference(other) == difference


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
