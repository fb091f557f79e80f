"""Loading versions that generate: whose steps are measured where they are not known, and what cannot be loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from server.backends.catalog import find_backends
from server.cli import main
from server.contract.errors import ContractError
from server.contract.layout import read_version
from server.errors import NotReady
from server.runtime.terms import Source
from tests.decoders import TinyDecoder, publish_decoder
from tests.server.runtime.generating_world import generating_world, prompt


def other_machine(folder: Path) -> None:
    steps = folder / "steps.json"
    steps.write_text(steps.read_text().replace('"runtime": "onnxruntime', '"runtime": "oldruntime'))


@pytest.mark.parametrize(
    "break_it",
    [
        lambda folder: (folder / "steps.json").unlink(),
        other_machine,
        lambda folder: (folder.parent / "model.toml").write_text('slo = "30s"\ngap = "30s"\nthreads = 2\n'),
    ],
)
def test_steps_that_are_not_known_here_are_measured_before_it_serves_and_kept(
    tmp_path: Path, break_it: Callable[[Path], object]
) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path)
        break_it(tmp_path / "tiny" / "1")
        async with generating_world(tmp_path) as w:
            sources = [w.model.terms.source]
            assert 1 <= w.model.limits.slots <= 32
            client = w.ask(prompt(20, 1), 5)
            await w.over(client)
            assert client.tokens == TinyDecoder().greedy(prompt(20, 1), 5)
            await w.registry.load("tiny")
            sources.append(w.model.terms.source)
            assert sources == [Source.MEASURED, Source.CACHED]
            assert w.sample("ferry_slots") == w.model.limits.slots

    asyncio.run(scenario())


def test_the_next_server_finds_what_was_measured(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path)
        (tmp_path / "tiny" / "1" / "steps.json").unlink()
        kept = tmp_path / ".kept"
        for source in (Source.MEASURED, Source.CACHED):
            async with generating_world(tmp_path, kept) as w:
                assert w.model.terms.source is source
        for file in kept.iterdir():
            file.write_text("{")
        async with generating_world(tmp_path, kept) as w:
            assert w.model.terms.source is Source.MEASURED

    asyncio.run(scenario())


def test_commands_that_know_other_models_only_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_decoder(tmp_path)
    with pytest.raises(ContractError, match="tiny/1 generates text: it does not take and give tensors"):
        find_backends().pick(read_version(tmp_path / "tiny", 1))
    assert main(["check", str(tmp_path)]) == 0
    (tmp_path / "tiny" / "1" / "steps.json").unlink()
    assert main(["check", str(tmp_path)]) == 0
    first, second = capsys.readouterr().out.split("everything is in order", 1)
    assert "steps" not in first
    assert "no steps.json: its steps are measured before it serves" in second
    assert main(["simulate", "tiny", "--repository", str(tmp_path), "--rate", "1"]) != 0
    assert "tiny/1 generates text; only models that answer in one step can be simulated" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b""), "damaged"),
        (
            lambda folder: (folder / "manifest.json").write_text(
                (folder / "manifest.json").read_text().replace("onnxruntime-decoder", "other-decoder")
            ),
            "needs backend 'other-decoder'; this ferry's for models that generate: onnxruntime-decoder",
        ),
    ],
)
def test_a_version_that_cannot_be_served_says_why(tmp_path: Path, break_it: Callable[[Path], object], reason: str) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path)
        break_it(tmp_path / "tiny" / "1")
        async with generating_world(tmp_path) as w:
            assert reason in (w.registry.problem("tiny") or "")
            with pytest.raises(NotReady, match="is not ready"):
                w.registry.find("tiny")

    asyncio.run(scenario())
