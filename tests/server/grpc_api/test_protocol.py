"""The definition: regenerating gives the committed bytes, and names, numbers and types are the public protocol's."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

import server.grpc_api
from server.grpc_api import messages
from tests.architecture.source import ROOT

FOLDER = Path(server.grpc_api.__file__).parent


def pinned() -> str:
    text = (ROOT / "pyproject.toml").read_text()
    return text.split('"grpcio-tools==')[1].split('"')[0]


def test_regenerating_gives_what_is_committed(tmp_path: Path) -> None:
    try:
        found = version("grpcio-tools")
    except PackageNotFoundError:
        pytest.skip("grpcio-tools is not installed")
    if found != pinned():
        pytest.skip(f"grpcio-tools is {found}, the pin is {pinned()}")
    command = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=protocol", f"--pyi_out={tmp_path}"]
    files = [f"--descriptor_set_out={tmp_path}/protocol.binpb", "protocol/inference.proto", "protocol/health.proto"]
    subprocess.run([*command, *files], check=True, cwd=FOLDER)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in (FOLDER / "generated").iterdir()}, "run `make proto`"


def fields(descriptor: Any) -> dict[str, tuple[int, int, bool]]:
    return {field.name: (field.number, field.type, field.is_repeated) for field in descriptor.fields}


def test_every_field_is_the_official_client_s() -> None:
    service = pytest.importorskip("tritonclient.grpc.service_pb2")
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    theirs = {**service.DESCRIPTOR.message_types_by_name, **config.DESCRIPTOR.message_types_by_name}
    ours = messages.protocol().FindFileByName("inference.proto")

    def compare(one: Any, other: Any) -> None:
        assert fields(one).items() <= fields(other).items(), one.full_name
        for name, nested in one.nested_types_by_name.items():
            compare(nested, other.nested_types_by_name[name])

    for name, message in ours.message_types_by_name.items():
        compare(message, theirs[name])
    for name, values in ours.enum_types_by_name.items():
        assert dict(values.values_by_name).keys() == dict(config.DESCRIPTOR.enum_types_by_name[name].values_by_name).keys()
        for value in values.values:
            assert config.DESCRIPTOR.enum_types_by_name[name].values_by_name[value.name].number == value.number


def test_health_is_the_standard_one() -> None:
    theirs = pytest.importorskip("grpc_health.v1.health_pb2").DESCRIPTOR
    ours = messages.protocol().FindFileByName("health.proto")
    for name, message in ours.message_types_by_name.items():
        assert fields(message) == fields(theirs.message_types_by_name[name])


def test_an_unknown_message_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSuchMessage"):
        _ = messages.NoSuchMessage  # type: ignore[attr-defined]
