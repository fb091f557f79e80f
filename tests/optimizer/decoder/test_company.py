"""On this machine's kernels: what a row gets in int4 or float32 has the same bits alone and in company, whoever joins and leaves meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from optimizer.decoder.checkpoint import read_checkpoint
from optimizer.decoder.quantize import QuantizeTask
from server.backends.base import Array
from server.backends.decoding import Decoder, Row
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.contract.generation import Generation
from tests.optimizer.decoder.tiny import prompts

LENGTHS = (5, 17, 33, 64, 1, 9, 100, 150, 70, 65, 2, 128)
"""Of prompts: fewer and more than a chunk, and as many."""

N_NEW, SLOTS, CHUNK = 20, 6, 64
Bits = list[bytes]


class Talk:
    """One request on a decoder: its prompt read in chunks, its likeliest tokens, and the logits of each as bytes."""

    def __init__(self, prompt: Array, n_new: int) -> None:
        self.prompt, self.n_new = prompt, n_new
        self.n_read, self.token, self.logits = 0, -1, Bits()

    @property
    def is_over(self) -> bool:
        return len(self.logits) == self.n_new

    @property
    def is_read(self) -> bool:
        return self.n_read == len(self.prompt)

    def row(self, slot: int) -> Row:
        return Row(slot, self.token, len(self.prompt) + len(self.logits) - 1)

    def read(self, decoder: Decoder, slot: int) -> None:
        """One chunk more."""
        chunk = self.prompt[self.n_read : self.n_read + CHUNK]
        logits = decoder.prefill([slot], [chunk], self.n_read)[0]
        self.n_read += len(chunk)
        if self.is_read:
            self.got(logits)

    def got(self, logits: Array) -> None:
        self.token = int(logits.argmax())
        self.logits.append(logits.tobytes())


@pytest.fixture(scope="module", params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module", params=["float32", "int4"])
def folder(request: pytest.FixtureRequest, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a decoder in this form, as the optimizer makes it."""
    if request.param == "float32":
        return exported
    out = tmp_path_factory.mktemp("int4")
    QuantizeTask(exported, 4)(out, lambda what, done, total: None)
    return out


@pytest.fixture
def decoder(folder: Path, threads: int, tiny_checkpoint: Path) -> Iterator[Decoder]:
    generation: Generation = read_checkpoint(tiny_checkpoint).generation
    with closing(OnnxDecoderBackend().load(folder, generation, SLOTS, threads)) as made:
        yield made


def alone(decoder: Decoder, prompt: Array, n_new: int, slot: int) -> Bits:
    """Nobody else is there, and the prompt is read whole."""
    talk = Talk(prompt, n_new)
    talk.got(decoder.prefill([slot], [prompt], 0)[0])
    while not talk.is_over:
        talk.got(decoder.decode([talk.row(slot)])[0])
    return talk.logits


@pytest.mark.parametrize("seed", [1, 2])
def test_every_bit_is_the_same_alone_and_in_company(decoder: Decoder, seed: int) -> None:
    """Requests join free slots at random steps, read their prompts a chunk at a time beside those who decode, and leave when they end."""
    rnd = random.Random(seed)
    talks = [Talk(prompt, rnd.randint(1, N_NEW)) for prompt in prompts(LENGTHS)]
    coming, slots, most = list(talks), dict[int, Talk](), 0
    while coming or slots:
        free = [slot for slot in range(SLOTS) if slot not in slots]
        if coming and free and rnd.random() < 0.7:
            slots[rnd.choice(free)] = coming.pop(0)
        reading = [slot for slot, talk in slots.items() if not talk.is_read]
        decoding = [slot for slot, talk in slots.items() if talk.is_read]
        if decoding:
            most = max(most, len(decoding))
            for slot, logits in zip(decoding, decoder.decode([slots[slot].row(slot) for slot in decoding]).copy(), strict=True):
                slots[slot].got(logits)
        if reading:
            slots[reading[0]].read(decoder, reading[0])
        slots = {slot: talk for slot, talk in slots.items() if not talk.is_over}
    assert most >= SLOTS - 2, "there was company"
    for talk in talks:
        assert talk.logits == alone(decoder, talk.prompt, talk.n_new, rnd.randrange(SLOTS))


def test_another_prompt_gets_other_bits(decoder: Decoder) -> None:
    first, second = prompts((9, 10))
    assert alone(decoder, first, 4, 0) != alone(decoder, second, 4, 0)


def test_int4_is_not_float32(exported: Path, folder: Path, tiny_checkpoint: Path) -> None:
    """What is compared above are two forms indeed."""
    generation = read_checkpoint(tiny_checkpoint).generation
    found = []
    for one in (exported, folder):
        with closing(OnnxDecoderBackend().load(one, generation, 1, 1)) as decoder:
            found.append(decoder.prefill([0], prompts((9,)), 0)[0].copy())
    assert np.array_equal(*found) == (folder == exported)
