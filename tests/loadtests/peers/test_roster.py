from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from loadtests.peers import triton
from loadtests.peers.bentoml import BENTOML
from loadtests.peers.fastapi import FASTAPI
from loadtests.peers.ferry import FERRY
from loadtests.peers.mlserver import MLSERVER
from loadtests.peers.models import NAMES
from loadtests.peers.mosec import MOSEC
from loadtests.peers.peer import ROOT, SERVERS, Knob, Peer, Tuning, Visit
from loadtests.peers.roster import ROSTER
from loadtests.peers.triton import TRITON
from tests.loadtests.models import sentence
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


def test_every_peer_is_tried_with_and_without_batches_and_with_one_worker_and_two() -> None:
    for peer in PEERS:
        for name, ways in peer.candidates.items():
            assert len(set(map(str, ways))) == len(ways)
            assert {1, 2} <= {way.workers for way in ways}, (peer.name, name)
            joins = Knob.BATCH in peer.knobs and (peer, name) != (MLSERVER, "minilm")
            assert {way.max_batch > 1 for way in ways} == ({False, True} if joins else {False}), (peer.name, name)


def test_every_wait_is_one_that_the_server_can_be_told() -> None:
    for peer in PEERS:
        assert all(way.wait_ms in peer.waits_ms for ways in peer.candidates.values() for way in ways), peer.name
    assert 0.0 not in MLSERVER.waits_ms


def test_a_model_in_the_servers_own_process_has_no_worker() -> None:
    assert str(Tuning(workers=0, threads=2)) == "no batching, no worker process, 2 threads"
    assert str(Tuning(64, 1, workers=2)) == "batches of 64, 1 ms wait, 2 x 1 threads"


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


def test_triton_refuses_what_waits_too_long_or_behind_too_many_only_when_it_is_told_to(visit: Visit) -> None:
    text = triton.config(visit.model, Tuning(queue=40, timeout_ms=12.5))
    assert "default_queue_policy { timeout_action: REJECT, default_timeout_microseconds: 12500, max_queue_size: 40 }" in text
    assert "default_queue_policy" not in triton.config(visit.model, Tuning(64, 1))


def test_triton_lets_sentences_of_different_lengths_into_one_batch(visit: Visit) -> None:
    sentences = replace(visit.model, rows=[sentence(1, 2), sentence(1, 2, 3)])
    text = triton.config(sentences, Tuning(4, 1))
    assert '{ name: "input_ids", data_type: TYPE_INT64, dims: [-1], allow_ragged_batch: true }' in text
    assert "allow_ragged_batch" not in triton.config(visit.model, Tuning(4, 1))


def test_triton_counts_rows_in_a_batch(visit: Visit) -> None:
    pairs = replace(visit.model, rows=[{"x": np.zeros((2, 64), np.float32)}])
    assert "max_batch_size: 16" in triton.config(pairs, Tuning(8))


@pytest.mark.parametrize(("peer", "flag"), [(MOSEC, "--capacity"), (FASTAPI, "--limit-concurrency")])
def test_a_bound_of_the_queue_is_told_and_else_left_as_it_comes(peer: Peer, flag: str, visit: Visit) -> None:
    command = peer.launch(replace(visit, tuning=Tuning(queue=40))).command
    assert command[command.index(flag) + 1] == "40"
    assert flag not in peer.launch(visit).command


def test_mosec_is_told_a_timeout_and_else_keeps_its_own(visit: Visit) -> None:
    command = MOSEC.launch(replace(visit, tuning=Tuning(timeout_ms=35.0))).command
    assert command[command.index("--timeout") + 1] == "35"
    assert "--timeout" not in MOSEC.launch(visit).command


def test_mosec_waits_not_at_all_only_if_it_is_told_so_twice(visit: Visit) -> None:
    command = MOSEC.launch(replace(visit, tuning=Tuning(8, 0))).command
    assert command[command.index("--wait") + 1] == "0"
    assert "--wait" not in MOSEC.launch(replace(visit, tuning=Tuning(8, 1))).command


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_mlserver_has_as_many_parallel_workers_as_it_is_told(workers: int, visit: Visit) -> None:
    MLSERVER.launch(replace(visit, tuning=Tuning(workers=workers)))
    assert orjson.loads((visit.folder / "settings.json").read_bytes())["parallel_workers"] == workers


def test_bentoml_gets_the_tensors_of_a_sentence_as_one_object(visit: Visit) -> None:
    pair = {name: np.concatenate([array, array + 1]) for name, array in sentence(3, 4).items()}
    request = BENTOML.wire(replace(visit.model, rows=[pair])).request(pair)
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert orjson.loads(body) == {
        "sentences": [{"input_ids": [3, 4], "attention_mask": [1, 1]}, {"input_ids": [4, 5], "attention_mask": [2, 2]}]
    }


def test_mlserver_batches_only_when_it_is_on(visit: Visit) -> None:
    MLSERVER.launch(visit)
    assert "max_batch_size" not in (visit.folder / "model-settings.json").read_text()
    MLSERVER.launch(replace(visit, tuning=Tuning(8, 2)))
    found = orjson.loads((visit.folder / "model-settings.json").read_bytes())
    assert (found["max_batch_size"], found["max_batch_time"]) == (8, 0.002)
