from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from loadtests.peers import triton
from loadtests.peers.ferry import FERRY
from loadtests.peers.mlserver import MLSERVER
from loadtests.peers.models import NAMES
from loadtests.peers.peer import ROOT, SERVERS, Peer, Tuning, Visit
from loadtests.peers.roster import ROSTER
from loadtests.peers.triton import TRITON
from tests.loadtests.peers.example import doubling

PEERS = [peer for peer in ROSTER if peer is not FERRY]


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    model, _ = doubling(tmp_path / "models")
    (tmp_path / "visit").mkdir()
    python = tmp_path / "env" / "bin" / "python"
    return Visit(model, Tuning(), 1234, tmp_path / "visit", python)


def test_every_peer_is_pinned_and_has_a_way_to_run_every_model() -> None:
    for peer in PEERS:
        assert set(peer.candidates) == set(NAMES), peer.name
        assert all("==" in requirement for requirement in peer.requirements)
        assert peer.settings
    assert len({peer.name for peer in ROSTER}) == len(ROSTER) == 8


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer is not TRITON], ids=lambda peer: peer.name)
def test_every_server_is_told_the_port_and_the_file_and_binds_to_loopback(peer: Peer, visit: Visit) -> None:
    launch = peer.launch(visit)
    setup = orjson.loads(launch.environment["PEER_SETUP"])
    assert (setup["port"], setup["host"]) == (1234, "127.0.0.1")
    assert setup["file"] == str(visit.model.file)
    script = [word.split(":")[0] for word in launch.command if word.startswith(SERVERS)]
    assert all(ROOT.joinpath(*one.split(".")).with_suffix(".py").exists() for one in script)


def test_ferry_serves_a_copy_of_one_model_with_the_objective_of_the_overload_test(visit: Visit) -> None:
    wants = visit.model.file.parents[1] / "model.toml"
    wants.write_text('slo = "20ms"  # wanted\nmax_rows = 4\n')
    command = FERRY.launch(replace(visit, slo_s=0.05)).command
    copied = Path(command[command.index("--repository") + 1]) / "digits"
    assert (copied / "model.toml").read_text() == 'slo = "50ms"  # wanted\nmax_rows = 4\n'
    assert [one.name for one in copied.iterdir() if one.is_dir()] == [visit.model.file.parent.name]
    assert wants.read_text().startswith('slo = "20ms"')


def test_triton_is_told_types_and_shapes_and_how_to_batch(visit: Visit) -> None:
    text = triton.config(visit.model, Tuning(64, 1, workers=2))
    assert '{ name: "x", data_type: TYPE_FP32, dims: [64] }' in text
    assert "max_batch_size: 64" in text
    assert "instance_group [{ count: 2, kind: KIND_CPU }]" in text
    assert "dynamic_batching { max_queue_delay_microseconds: 1000 }" in text
    assert "dynamic_batching" not in triton.config(visit.model, Tuning())


def test_mlserver_batches_only_when_it_is_on(visit: Visit) -> None:
    MLSERVER.launch(visit)
    assert "max_batch_size" not in (visit.folder / "model-settings.json").read_text()
    MLSERVER.launch(replace(visit, tuning=Tuning(8, 2)))
    found = orjson.loads((visit.folder / "model-settings.json").read_bytes())
    assert (found["max_batch_size"], found["max_batch_time"]) == (8, 0.002)
