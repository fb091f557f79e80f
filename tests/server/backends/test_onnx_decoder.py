"""The decoder backend: equal to a calculation by NumPy, however prompts are cut and whoever else is there."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from server.backends.base import Array, BatchError, LoadError
from server.backends.decoding import Decoder, Row
from server.backends.onnx_decoder import OnnxDecoderBackend
from tests.decoders import TinyDecoder, write_decoder

TINY = TinyDecoder()
SLOTS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("decoder"), TINY)


@pytest.fixture
def decoder(folder: Path) -> Iterator[Decoder]:
    made = loaded(folder)
    yield made
    made.close()


def loaded(folder: Path, tiny: TinyDecoder = TINY, slots: int = SLOTS) -> Decoder:
    return OnnxDecoderBackend().load(folder, tiny.generation, slots, threads=1)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def ids(n_tokens: int, seed: int = 0) -> Array:
    made: Array = np.random.default_rng(seed).integers(1, TINY.vocabulary, n_tokens)
    return made


def whole(decoder: Decoder, slot: int, prompt: Array) -> Array:
    logits: Array = decoder.prefill([slot], [prompt], 0)[0]
    return logits


def continued(decoder: Decoder, rows: Sequence[tuple[int, Array]], n_new: int) -> list[list[int]]:
    """Greedy tokens of prompts that are kept already but for their last token, all stepping together."""
    known = {slot: list(prompt) for slot, prompt in rows}
    for _ in range(n_new):
        logits = decoder.decode([Row(slot, int(one[-1]), len(one) - 1) for slot, one in known.items()])
        for one, row in zip(known.values(), logits, strict=True):
            one.append(int(row.argmax()))
    return [known[slot][len(prompt) :] for slot, prompt in rows]


def test_says_how_many_slots_it_has(decoder: Decoder) -> None:
    assert decoder.slots == SLOTS


@pytest.mark.parametrize("n_tokens", [1, 2, 63, 64, 65, 200])
def test_reads_a_prompt_as_numpy_does(decoder: Decoder, n_tokens: int) -> None:
    np.testing.assert_allclose(whole(decoder, 0, ids(n_tokens)), TINY.logits(ids(n_tokens))[-1], atol=2e-4)


@pytest.mark.parametrize("n_tokens", [1, 2, 17, 64, 65, 200])
def test_scores_a_prompt_as_numpy_does(decoder: Decoder, n_tokens: int) -> None:
    """Whole or in pieces; and it keeps what reading keeps."""
    prompt = ids(n_tokens)
    found = decoder.score(2, prompt, 0)
    np.testing.assert_allclose(found, TINY.logits(prompt), atol=2e-4)
    pieces = [decoder.score(1, prompt[start : start + 64], start) for start in range(0, n_tokens, 64)]
    np.testing.assert_allclose(np.concatenate(pieces), found, atol=1e-5)
    whole(decoder, 0, prompt)
    followed = decoder.decode([Row(slot, 7, n_tokens) for slot in range(3)])
    assert len({one.tobytes() for one in followed}) == 1


def test_generates_what_numpy_does(decoder: Decoder) -> None:
    prompt = ids(20)
    decoder.prefill([3], [prompt[:-1]], 0)
    assert continued(decoder, [(3, prompt)], 40) == [TINY.greedy(prompt.tolist(), 40)]


@pytest.mark.parametrize("cuts", [[64, 128, 192], [64], [128], [192]])
def test_a_prompt_cut_at_multiples_of_64_gives_the_same_bits(decoder: Decoder, cuts: list[int]) -> None:
    prompt = ids(200)
    expected = whole(decoder, 0, prompt)
    start = 0
    for stop in [*cuts, 200]:
        logits = decoder.prefill([1], [prompt[start:stop]], start)
        start = stop
    assert logits[0].tobytes() == expected.tobytes()
    assert continued(decoder, [(0, prompt)], 5) == continued(decoder, [(1, prompt)], 5)


@pytest.mark.parametrize("head_size", [16, 64])
@pytest.mark.parametrize("n_tokens", [1, 2, 17, 33, 64, 65, 97, 129, 193])
def test_the_last_token_of_a_block_gets_the_same_bits(tmp_path: Path, head_size: int, n_tokens: int) -> None:
    """Alone, cut so that it is a chunk of its own, and with a longer prompt; and so do those that follow it."""
    decoder = loaded(write_decoder(tmp_path, tiny := TinyDecoder(head_size=head_size)), tiny)
    prompt = ids(n_tokens)
    found = [whole(decoder, 0, prompt)]
    for cut, slot in ((64, 1), (128, 2)):
        for start in range(0, n_tokens, cut):
            logits = decoder.prefill([slot], [prompt[start : start + cut]], start)
        found.append(logits[0])
    found.append(decoder.prefill([3, 4], [prompt, ids(n_tokens + max(1, n_tokens // 8), 1)], 0)[0])
    assert len({one.tobytes() for one in found}) == 1
    followed = decoder.decode([Row(slot, 7, n_tokens) for slot in range(4)])
    assert len({one.tobytes() for one in followed}) == 1
    decoder.close()


@pytest.mark.parametrize("slots", [[0, 1, 2, 3], [3, 1, 0, 2], [4, 0, 2], [0, 1, 3, 4]])
def test_prompts_read_together_get_the_bits_that_they_get_alone(decoder: Decoder, slots: list[int]) -> None:
    prompts = [ids(length, seed) for seed, length in enumerate((30, 33, 90, 31)[: len(slots)])]
    alone = [whole(decoder, 0, prompt) for prompt in prompts]
    together = decoder.prefill(slots, prompts, 0)
    assert [row.tobytes() for row in together] == [row.tobytes() for row in alone]
    each = [continued(decoder, [row], 4) for row in zip(slots, prompts, strict=True)]
    assert continued(decoder, list(zip(slots, prompts, strict=True)), 4) == [tokens for one in each for tokens in one]


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 5])
def test_a_row_in_company_gets_the_bits_that_it_gets_alone(decoder: Decoder, n_rows: int) -> None:
    prompts = [ids(10 * slot + 5, slot) for slot in range(SLOTS)]
    alone = []
    for prompt in prompts:
        whole(decoder, 0, prompt)
        alone.append(decoder.decode([Row(0, 7, len(prompt))])[0].tobytes())
    for slot, prompt in enumerate(prompts):
        whole(decoder, slot, prompt)
    chosen = [4, 2, 0, 3, 1][:n_rows]
    logits = decoder.decode([Row(slot, 7, len(prompts[slot])) for slot in chosen])
    assert [row.tobytes() for row in logits] == [alone[slot] for slot in chosen]


def test_rows_of_others_leave_what_is_kept_alone(decoder: Decoder) -> None:
    """Slot 0 keeps what it had, slot 1 is in the midst of a prompt, slot 2 is untouched, slot 3 is full."""
    prompts = [ids(40, 1), ids(100, 2), ids(1, 3), ids(TINY.longest, 4)]
    expected = [whole(decoder, slot, prompt) for slot, prompt in enumerate(prompts)]
    whole(decoder, 0, prompts[0][:-1])
    whole(decoder, 1, prompts[1][:64])
    whole(decoder, 3, prompts[3])
    for n_kept in range(20):
        decoder.decode([Row(4, 9, n_kept)])
    assert np.array_equal(decoder.prefill([1], [prompts[1][64:]], 64)[0], expected[1])
    assert np.array_equal(whole(decoder, 2, prompts[2]), expected[2])
    np.testing.assert_allclose(decoder.prefill([0], [prompts[0][39:]], 39)[0], expected[0], atol=1e-4)
    np.testing.assert_allclose(decoder.prefill([3], [prompts[3][-1:]], TINY.longest - 1)[0], expected[3], atol=1e-4)


def test_a_slot_that_is_taken_again_knows_nothing_of_before(decoder: Decoder) -> None:
    expected = whole(decoder, 0, ids(12, 1))
    whole(decoder, 1, ids(80, 2))
    assert np.array_equal(whole(decoder, 1, ids(12, 1)), expected)
    decoder.decode([Row(2, 1, 0)])
    assert continued(decoder, [(1, ids(12, 1))], 6) == continued(decoder, [(0, ids(12, 1))], 6)


def test_a_copied_prefix_is_as_good_as_one_that_was_read(decoder: Decoder) -> None:
    prompt = ids(150)
    expected = whole(decoder, 0, prompt)
    decoder.copy(0, 4, 128)
    whole(decoder, 0, ids(150, 9))
    assert np.array_equal(decoder.prefill([4], [prompt[128:]], 128)[0], expected)


def test_a_copy_is_not_disturbed_by_rows_of_others(decoder: Decoder) -> None:
    prompt = ids(100)
    expected = whole(decoder, 0, prompt)
    decoder.copy(0, 1, 64)
    decoder.decode([Row(2, 5, 0)])
    assert np.array_equal(decoder.prefill([1], [prompt[64:]], 64)[0], expected)


def test_an_id_that_the_model_does_not_know_fails_this_call_only(decoder: Decoder) -> None:
    prompt = ids(70)
    expected = whole(decoder, 0, prompt)
    decoder.prefill([0], [prompt[:64]], 0)
    with pytest.raises(BatchError, match="indices"):
        decoder.prefill([0], [np.array([TINY.vocabulary])], 64)
    with pytest.raises(BatchError, match="indices"):
        decoder.decode([Row(0, TINY.vocabulary, 64), Row(1, 1, 0)])
    assert np.array_equal(decoder.prefill([0], [prompt[64:]], 64)[0], expected)


def test_what_does_not_fit_is_our_own_mistake(decoder: Decoder) -> None:
    with pytest.raises(AssertionError, match="a slot keeps 256 tokens"):
        decoder.prefill([0], [ids(TINY.longest + 1)], 0)
    with pytest.raises(AssertionError, match="one is full"):
        decoder.decode([Row(0, 1, TINY.longest)])


def test_the_last_place_of_a_slot_can_be_used(decoder: Decoder) -> None:
    prompt = ids(TINY.longest)
    decoder.prefill([0], [prompt[:-1]], 0)
    logits = decoder.decode([Row(0, int(prompt[-1]), TINY.longest - 1)])
    np.testing.assert_allclose(logits[0], TINY.logits(prompt)[-1], atol=2e-4)


def test_slots_that_nobody_writes_take_no_memory(folder: Path) -> None:
    """A GiB of slots: only what is written of them is taken."""
    before = resident_bytes()
    decoder = loaded(folder, replace(TINY, longest=2**18), slots=8)
    decoder.prefill([0], [ids(3)], 0)
    decoder.prefill([7], [ids(3)], 0)
    assert resident_bytes() - before < 2**26
    decoder.close()


def test_refuses_more_slots_than_there_is_memory_for(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"no 137438953472 bytes for one layer's cache .*: lower `slots` in model.toml"):
        loaded(folder, replace(TINY, longest=2**20), slots=1024)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (TinyDecoder(layers=1), r"inputs: 'past_key_values.1.key' should be absent but is tensor\(float\)"),
        (TinyDecoder(layers=3), r"inputs: 'past_key_values.2.key' should be tensor\(float\) but is absent"),
        (TinyDecoder(vocabulary=65), r"'logits' has shape \['rows', 64\], which the manifest"),
        (TinyDecoder(kept_heads=4), r"'past_key_values.0.key' has shape"),
    ],
)
def test_refuses_a_graph_that_is_not_what_the_manifest_says(folder: Path, wrong: TinyDecoder, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        loaded(folder, wrong)


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"model\.onnx"):
        loaded(tmp_path)
