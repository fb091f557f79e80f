"""Decoders on ONNX Runtime, on the CPU: a graph whose attention keeps keys and values of each row in place, in that row's slot.

The same memory is bound as past and as present, so a step copies nothing and takes no longer with longer slots. A call works on
neighbouring slots, all of them: those between that are nobody's calculate for the bin, and write where nobody reads.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from server.backends.base import NUMPY_TYPES, Array, BatchError, LoadError
from server.backends.decoding import Decoder, Row
from server.backends.onnx_session import open_session
from server.backends.onnx_values import reason_of
from server.contract.generation import Generation, KeptShape
from server.contract.tensors import DataType

_INPUTS: Mapping[str, str] = {
    "input_ids": "tensor(int64)",
    "seqlens_k": "tensor(int32)",
    "total_sequence_length": "tensor(int32)",
    "logits_indices": "tensor(int64)",
}
_ELEMENTS = {
    DataType.FP32: (1, "tensor(float)"),
    DataType.FP16: (10, "tensor(float16)"),
    DataType.BF16: (16, "tensor(bfloat16)"),
}
"""What the library calls a type of what is kept: its number, its name."""

_BLOCK = 16
"""Attention reads a prompt in blocks of so many tokens or a multiple, by the size of its heads. A block of one takes other kernels, whose
last bits differ, and which tokens are the last of a call depends on how a prompt is cut and on what is read with it."""

MOST_PADDING = 0.25
"""Prompts of different lengths are read in one call if no larger share of it is padding."""


class OnnxDecoderBackend:
    """Loads `model.onnx`, whose weights may lie beside it in files of their own.

    Inputs: `input_ids` int64 [batch, tokens], `seqlens_k` int32 [batch] (tokens kept, those of this call included, less 1),
    `total_sequence_length` int32 [] (the most of these, plus 1), `logits_indices` int64 [rows] (positions in the batch × tokens whose
    logits are wanted), `past_key_values.{layer}.key` and `.value` [batch, heads, longest, head size]. Outputs: `logits` float32
    [rows, vocabulary], `present.{layer}.key` and `.value`, which are the past ones again. Its attention is GroupQueryAttention.
    """

    name = "onnxruntime-decoder"
    runtime = f"onnxruntime {ort.__version__}"
    model_file = "model.onnx"

    def load(self, folder: Path, generation: Generation, slots: int, threads: int) -> Decoder:
        """Raises LoadError when the file cannot be loaded, is another kind of graph, or there is no memory for so many slots."""
        options = ort.SessionOptions()
        # A plan of memory would be kept for each shape that ever came, and prompts have every length.
        options.enable_mem_pattern = False
        session = open_session(folder / self.model_file, threads, options)
        _check(session, generation)
        return _OnnxDecoder(session, generation, _Cache(generation, slots))


class _OnnxDecoder:
    """`_n_kept`: of each slot, as far as the calls until now have filled it."""

    def __init__(self, session: ort.InferenceSession, generation: Generation, cache: _Cache) -> None:
        self._session = session
        self._vocabulary = generation.vocabulary
        self._longest = generation.longest
        self._cache = cache
        self._n_kept = np.zeros(cache.slots, np.int32)
        self._views: dict[tuple[int, int], ort.IOBinding] = {}
        self._decoded = np.empty((cache.slots, generation.vocabulary), np.float32)

    @property
    def slots(self) -> int:
        return self._cache.slots

    def prefill(self, slots: Sequence[int], prompts: Sequence[Array], start: int) -> Array:
        assert len(slots) == 1 or not start, "prompts that go on are read one by one"
        lengths = [len(prompt) for prompt in prompts]
        assert start + max(lengths) <= self._longest, f"a slot keeps {self._longest} tokens, not {start} + {max(lengths)}"
        logits = np.empty((len(slots), self._vocabulary), np.float32)
        for run in _runs(slots, lengths):
            n_tokens = max(lengths[place] for place in run)
            n_read = self._n_read(n_tokens, start)
            ids = np.zeros((len(run), n_read), np.int64)
            kept = np.empty(len(run), np.int32)
            for row, place in enumerate(run):
                ids[row, : lengths[place]] = prompts[place]
                kept[row] = start + lengths[place]
            last = np.arange(len(run)) * n_read + kept - start - 1
            first, n_slots = slots[run[0]], len(run)
            self._n_kept[first : first + n_slots] = np.minimum(self._n_kept[first : first + n_slots], start)
            ends = kept - 1 + n_read - n_tokens
            logits[list(run)] = self._run(first, ids, ends, last, np.empty((n_slots, self._vocabulary), np.float32))
            self._n_kept[first : first + n_slots] = kept
        return logits

    def score(self, slot: int, tokens: Array, start: int) -> Array:
        n_tokens, stop = len(tokens), start + len(tokens)
        assert stop <= self._longest, f"a slot keeps {self._longest} tokens, not {stop}"
        n_read = self._n_read(n_tokens, start)
        ids = np.zeros((1, n_read), np.int64)
        ids[0, :n_tokens] = tokens
        self._n_kept[slot] = min(self._n_kept[slot], start)
        ends = np.array([start + n_read - 1], np.int32)
        logits = self._run(slot, ids, ends, np.arange(n_tokens), np.empty((n_tokens, self._vocabulary), np.float32))
        self._n_kept[slot] = stop
        return logits

    def _n_read(self, n_tokens: int, start: int) -> int:
        """Who would be alone in a block gets company: one token of nobody's behind it, kept where the next one will go."""
        return n_tokens + 1 if n_tokens % _BLOCK == 1 and start + n_tokens < self._longest else n_tokens

    def decode(self, rows: Sequence[Row]) -> Array:
        slots = [row.slot for row in rows]
        n_slots = max(slots) + 1
        ids = np.zeros((n_slots, 1), np.int64)
        ids[slots, 0] = [row.token for row in rows]
        n_kept = [row.n_kept for row in rows]
        assert max(n_kept) < self._longest, f"a slot keeps {self._longest} tokens and one is full"
        # Whose row it is not writes past what its slot keeps, where its next token goes; in a full slot the last one is put back.
        before = self._n_kept[:n_slots].copy()
        before[slots] = n_kept
        full = [(int(slot), self._cache.last(int(slot))) for slot in np.flatnonzero(before == self._longest)]
        self._n_kept[slots] = n_kept
        logits = self._run(0, ids, np.minimum(before, self._longest - 1), np.array(slots), self._decoded[: len(rows)])
        for slot, kept in full:
            self._cache.put_last(slot, kept)
        self._n_kept[slots] += 1
        return logits

    def copy(self, source: int, target: int, n_kept: int) -> None:
        self._cache.copy(source, target, n_kept)
        self._n_kept[target] = n_kept

    def close(self) -> None:
        self._views.clear()
        self._cache.close()
        del self._session

    def _run(self, first: int, ids: Array, last: Array, indices: Array, logits: Array) -> Array:
        """Work on the slots from `first` on, whose last token of this call comes at `last`."""
        total = np.array(int(last.max()) + 1, np.int32)
        view = self._view(first, len(ids))
        # The library holds addresses only: these arrays must live until it has run.
        inputs = {
            "input_ids": ids,
            "seqlens_k": last.astype(np.int32, copy=False),
            "total_sequence_length": total,
            "logits_indices": indices.astype(np.int64, copy=False),
        }
        for name, array in inputs.items():
            view.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        view.bind_output("logits", "cpu", 0, logits.dtype, logits.shape, logits.ctypes.data)
        try:
            self._session.run_with_iobinding(view)
        except Exception as error:  # the library raises unrelated types; whatever it is concerns this call only
            raise BatchError(reason_of(error)) from None
        return logits

    def _view(self, first: int, n_slots: int) -> ort.IOBinding:
        """With so many slots from `first` on bound as past and as present."""
        view = self._views.get((first, n_slots))
        if view is None:
            view = self._views[first, n_slots] = self._session.io_binding()
            for past, present, shape, address in self._cache.view(first, n_slots):
                view.bind_input(past, "cpu", 0, self._cache.element, shape, address)
                view.bind_output(present, "cpu", 0, self._cache.element, shape, address)
        return view


class _Cache:
    """Keys and values of all layers: an array [slots, heads, longest, head size] each, whose memory is taken when it is first written."""

    def __init__(self, generation: Generation, slots: int) -> None:
        kept = generation.kept
        self.slots = slots
        self.element, _ = _ELEMENTS[kept.datatype]
        self._shape = (kept.heads, generation.longest, kept.head_size)
        self._names = list(_kept_names(kept))
        self._arrays = [_pages((slots, *self._shape), NUMPY_TYPES[kept.datatype.value]) for _ in self._names]

    def view(self, first: int, n_slots: int) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
        """For each array its name as past and as present, and the shape and address of these slots."""
        for (past, present), array in zip(self._names, self._arrays, strict=True):
            yield past, present, (n_slots, *self._shape), array[first].ctypes.data

    def copy(self, source: int, target: int, n_kept: int) -> None:
        for array in self._arrays:
            array[target, :, :n_kept] = array[source, :, :n_kept]

    def last(self, slot: int) -> list[Array]:
        """What a full slot keeps of its last token."""
        return [array[slot, :, -1].copy() for array in self._arrays]

    def put_last(self, slot: int, kept: Sequence[Array]) -> None:
        for array, values in zip(self._arrays, kept, strict=True):
            array[slot, :, -1] = values

    def close(self) -> None:
        self._arrays.clear()


def _pages(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Zeros, each page of which is taken from the machine when it is first written. NumPy's own would take 2 MiB at a time, which
    is most of a slot's share in a layer."""
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    try:
        pages = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise LoadError(f"no {n_bytes} bytes for one layer's cache ({error.strerror}): lower `slots` in model.toml") from None
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # on Linux only
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)


def _kept_names(kept: KeptShape) -> Iterator[tuple[str, str]]:
    """Of each array: as past, as present."""
    for layer in range(kept.layers):
        for half in ("key", "value"):
            yield f"past_key_values.{layer}.{half}", f"present.{layer}.{half}"


def _runs(slots: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
    """Places in `slots` that are read in one call: of neighbouring slots in their order, with little padding."""
    order = sorted(range(len(slots)), key=slots.__getitem__)
    run = order[:1]
    for place in order[1:]:
        longer = [*run, place]
        n_tokens = [lengths[one] for one in longer]
        if slots[place] == slots[run[-1]] + 1 and sum(n_tokens) >= (1 - MOST_PADDING) * max(n_tokens) * len(longer):
            run = longer
        else:
            yield run
            run = [place]
    yield run


def _check(session: ort.InferenceSession, generation: Generation) -> None:
    """Raises LoadError when the graph is not what is driven here, or not what the manifest says."""
    kept = generation.kept
    _, kept_type = _ELEMENTS[kept.datatype]
    names = list(_kept_names(kept))
    wanted_in = {**_INPUTS, **{past: kept_type for past, _ in names}}
    wanted_out = {"logits": "tensor(float)", **{present: kept_type for _, present in names}}
    inputs, outputs = session.get_inputs(), session.get_outputs()
    for what, wanted, found in (
        ("inputs", wanted_in, {arg.name: arg.type for arg in inputs}),
        ("outputs", wanted_out, {arg.name: arg.type for arg in outputs}),
    ):
        for name in (*wanted, *found):
            if wanted.get(name) != found.get(name):
                raise LoadError(
                    f"{what}: {name!r} should be {wanted.get(name, 'absent')} but is {found.get(name, 'absent')}; "
                    "publish the decoder again with `ferry optimize`"
                )
    shapes = {arg.name: arg.shape for arg in (*inputs, *outputs)}
    fixed = {"logits": [None, generation.vocabulary]} | {past: [None, kept.heads, None, kept.head_size] for past, _ in names}
    for name, dims in fixed.items():
        found_dims = shapes[name]
        if len(found_dims) != len(dims) or any(
            dim is not None and isinstance(there, int) and dim != there for dim, there in zip(dims, found_dims, strict=True)
        ):
            raise LoadError(f"{name!r} has shape {found_dims}, which the manifest's generation section denies; publish again")
