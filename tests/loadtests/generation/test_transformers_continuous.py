"""transformers' manager is made once, before any clock runs: a manager inside each run would be counted against transformers."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.peers.generators.talk import Setup

PROGRAMS = Path(__file__).resolve().parents[3] / "loadtests" / "peers" / "generators"


class Manager:
    """Answers in another order than it was asked, with tokens that tell which request they are for."""

    def __init__(self) -> None:
        self.asked: list[SimpleNamespace] = []
        self.n_asked = 0

    def add_request(self, prompt: list[int], max_new_tokens: int, eos_token_id: int) -> str:
        name = f"req_{self.n_asked}"
        self.n_asked += 1
        done = SimpleNamespace(request_id=name, generated_tokens=[prompt[0]] * max_new_tokens, is_finished=lambda: True)
        self.asked.append(done)
        return name

    def get_result(self, timeout: float) -> SimpleNamespace:
        return self.asked.pop()


class Model:
    def __init__(self) -> None:
        self.events: list[str] = []

    def eval(self) -> Model:
        return self

    @contextmanager
    def continuous_batching_context_manager(self, **_: Any) -> Iterator[Manager]:
        self.events.append("started")
        yield Manager()
        self.events.append("stopped")


def loaded(file: Path) -> Any:
    """By no name: nobody else may find a module that was made of fakes."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_manager_serves_every_run_and_is_stopped_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    fakes = {
        "torch": SimpleNamespace(set_num_threads=lambda _: None, float32="float32"),
        "transformers": SimpleNamespace(
            AutoModelForCausalLM=SimpleNamespace(from_pretrained=lambda *_, **__: model),
            ContinuousBatchingConfig=dict,
            GenerationConfig=dict,
        ),
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    program = loaded(PROGRAMS / "transformers_continuous.py")
    run = program.load(Setup("folder", [[5], [6]], [2, 3], 2, 1))
    assert [run(), run()] == [[[5, 5], [6, 6, 6]]] * 2
    assert model.events == ["started"]
    program._OPEN.close()
    assert model.events == ["started", "stopped"]
