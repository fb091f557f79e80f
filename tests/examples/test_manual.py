"""The manual example: its text, its optimizer, and that what it writes is a checkpoint that ferry takes."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import pytest
import torch

from examples.manual.__main__ import digest
from examples.manual.corpus import MOST_CHARACTERS, Entry, entries
from examples.manual.muon import Muon, orthogonalized
from examples.manual.training import TEMPLATE, Shape, rate_scale, text, train
from optimizer.decoder.checkpoint import read_checkpoint

TINY = Shape(vocabulary=300, hidden=32, inner=48, layers=1, heads=2, kept_heads=1, context=32, longest=64, batch=2)
SOURCE = '''
"""A module whose docstring says what it is good for, at some length."""

class Boat:
    """Carries cars over the river. It goes forth and back all day long."""

    def sail(self):
        """Cross the river once, with whatever is on board at that moment."""

    def _hide(self):
        """Nobody asks what private functions are good for, so this is left out."""

def short():
    """Says nothing."""
'''


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "ferries").mkdir()
    (tmp_path / "ferries" / "__init__.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "ferries" / "again.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "wrong.py").write_text(SOURCE.replace("Boat", "Test"), encoding="utf-8")
    (tmp_path / "broken.py").write_text("def (", encoding="utf-8")
    return tmp_path


def test_docstrings_become_questions_and_answers(library: Path) -> None:
    found = entries(library)
    assert [one.question for one in found] == [
        "What is the module ferries for?", "What is the class ferries.Boat?", "What does ferries.Boat.sail do?",
    ]  # fmt: skip
    assert found[1].answer == "Carries cars over the river. It goes forth and back all day long."
    assert entries(library) == found


def test_long_answers_end_with_a_paragraph(tmp_path: Path) -> None:
    paragraph = "word " * 100
    (tmp_path / "long.py").write_text(f'"""{(paragraph.strip() + chr(10) * 2) * 9}"""', encoding="utf-8")
    (answer,) = (one.answer for one in entries(tmp_path))
    assert len(answer) <= MOST_CHARACTERS
    assert answer.split("\n\n") == [paragraph.strip()] * 3


def test_the_digest_follows_text_and_time() -> None:
    text = [Entry("a", "b")]
    assert len({digest(text, 5.0), digest(text, 4.0), digest([], 5.0), digest(text, 5.0)}) == 3


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_orthogonalized_matrices_turn_and_hardly_stretch(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert orthogonalized(matrix).shape == shape
    assert 0.4 < values.min() <= values.max() < 1.4


def test_muon_goes_down() -> None:
    torch.manual_seed(0)
    matrix, wanted = torch.nn.Parameter(torch.randn(6, 4)), torch.randn(6, 4)
    muon = Muon([matrix])
    losses = []
    for _ in range(60):
        loss = (matrix - wanted).square().sum()
        loss.backward()
        muon.step(0.1)
        losses.append(loss.item())
        assert matrix.grad is None
    assert losses[-1] < 0.1 * losses[0]


def test_rates_rise_stay_and_fall() -> None:
    assert rate_scale(1, 0.0) == 1 / 40
    assert [rate_scale(100, share) for share in (0.1, 0.5, 0.75, 1.0, 1.1)] == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_what_is_trained_is_a_checkpoint_that_ferry_takes(library: Path, tmp_path: Path) -> None:
    told: list[tuple[float, int]] = []
    found = entries(library) * 9
    loss = train(found, tmp_path / "out", 0.0, lambda share, step, loss: told.append((share, step)), TINY)
    assert told == [(1.0, 1)]
    assert 4 < loss < 8, "about as much as all tokens being equally likely"
    checkpoint = read_checkpoint(tmp_path / "out")
    generation = checkpoint.generation
    assert (generation.vocabulary, generation.longest, generation.ends, checkpoint.begins) == (300, 64, (1,), 0)
    assert generation.specials == {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
    assert checkpoint.template == TEMPLATE
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == 1


def test_the_chat_template_asks_as_in_training() -> None:
    template = jinja2.Environment().from_string(TEMPLATE)
    messages = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "How?"},
    ]
    specials = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
    asked = template.render(messages=messages, add_generation_prompt=True, **specials)
    assert asked == "<|begin|>Question: Why?\nAnswer: So.<|end|><|begin|>Question: How?\nAnswer:"
    one = template.render(messages=messages[:1], add_generation_prompt=True, **specials)
    assert f"<|begin|>{text(Entry('Why?', 'So.'))}".startswith(one)
