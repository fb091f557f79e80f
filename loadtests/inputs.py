"""What is asked: rows of tensors from a file, or random ones as the server's own metadata wants them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from loadtests.data import InputMeta
from loadtests.errors import BadInput, MalformedReply
from loadtests.lengths import sample
from loadtests.tensors import BF16, Array, datatype_of, dtype_of, from_json, to_bf16

Row = Mapping[str, Array]
_MAX_TOKEN = 1000
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Asked:
    """Where rows come from. `file` is None for random tensors, of which `n` different ones are made."""

    file: Path | None
    n: int
    rows: int
    lengths: str
    seed: int


def prepare(inputs: Sequence[InputMeta], asked: Asked) -> list[Row]:
    """The rows of a test. Raises BadInput with what does not fit."""
    if asked.file is None:
        return random_rows(inputs, sample(asked.lengths, asked.n, asked.seed).tolist(), asked.rows, asked.seed)
    readers = {".npz": _npz, ".jsonl": _json_lines, ".txt": _text}
    reader = readers.get(asked.file.suffix)
    if reader is None:
        raise BadInput(f"{asked.file}: inputs are read from {', '.join(readers)}")
    try:
        rows = reader(asked.file, inputs, asked.rows)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the inputs {asked.file}: {error}") from error
    if not rows:
        raise BadInput(f"the inputs {asked.file} hold no row")
    return rows


def random_rows(inputs: Sequence[InputMeta], lengths: Sequence[int], n_rows: int, seed: int) -> list[Row]:
    """A row per length: the first free axis of an input is the batch, the other free axes get the length.

    Masks (`…mask`) are ones, segment ids (`…type_ids`) zeros, other integers 0…999 where their type holds them.
    """
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    n_bytes = 0
    for length in lengths:
        row = {one.name: _random(one, _shape(one, n_rows, length), rng) for one in inputs}
        n_bytes += sum(array.nbytes for array in row.values())
        if n_bytes > _MOST_BYTES:
            raise BadInput(f"{len(lengths)} random inputs take more than 1 GiB: give a smaller --n-inputs or --lengths")
        rows.append(row)
    return rows


def lengths_of(inputs: Sequence[InputMeta], rows: Sequence[Row]) -> list[int]:
    """How long each row is: bytes of text for a BYTES input, else the longest free axis. None at all if none is free."""
    texts = [one.name for one in inputs if one.datatype == "BYTES"]
    if texts:
        return [sum(len(item) for name in texts for item in row[name].ravel().tolist()) for row in rows]
    free = [(one.name, at) for one in inputs for at, size in enumerate(one.shape) if size < 0 and at > 0]
    return [max(row[name].shape[at] for name, at in free) for row in rows] if free else []


def _shape(meta: InputMeta, n_rows: int, length: int) -> tuple[int, ...]:
    if not meta.shape:
        return ()
    first, *rest = meta.shape
    if first >= 0 and first != n_rows and n_rows != 1:
        raise BadInput(f"input {meta.name} {list(meta.shape)} has a fixed batch: --rows {n_rows} does not fit")
    return (n_rows if first < 0 else first, *(length if size < 0 else size for size in rest))


def _random(meta: InputMeta, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    dtype = _dtype(meta)
    if meta.name.endswith("mask"):
        return np.ones(shape, dtype)
    if meta.name.endswith("type_ids"):
        return np.zeros(shape, dtype)
    if dtype == BF16:
        return to_bf16(rng.random(shape, np.float32))
    if dtype.kind == "O":
        words = np.empty(shape, object)
        words.ravel()[:] = [b"word %d" % one for one in rng.integers(0, _MAX_TOKEN, words.size)]
        return words
    if dtype.kind in "iu":
        return rng.integers(0, min(_MAX_TOKEN, int(np.iinfo(dtype).max)), shape).astype(dtype)
    return (rng.random(shape) < 0.5) if dtype.kind == "b" else rng.random(shape).astype(dtype)


def _dtype(meta: InputMeta) -> np.dtype[Any]:
    try:
        return dtype_of(meta.datatype)
    except ValueError as error:
        raise BadInput(f"input {meta.name}: {error}") from error


def _npz(file: Path, inputs: Sequence[InputMeta], n_rows: int) -> list[Row]:
    try:
        with np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"cannot read the inputs {file}: {error}") from error
    _same_names(str(file), arrays, inputs)
    sizes = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(sizes) != 1:
        raise BadInput(f"{file}: arrays differ in their number of rows: {sorted(sizes)}")
    n = sizes.pop() // n_rows * n_rows
    for meta in inputs:
        _fits(f"{file}", meta, arrays[meta.name][:n_rows])
    return [{one.name: arrays[one.name][at : at + n_rows] for one in inputs} for at in range(0, n, n_rows)]


def _same_names(where: str, found: Mapping[str, Any], inputs: Sequence[InputMeta]) -> None:
    wanted = [one.name for one in inputs]
    if sorted(found) != sorted(wanted):
        raise BadInput(f"{where}: inputs are {', '.join(sorted(found)) or 'none'}; the model wants {', '.join(wanted)}")


def _fits(where: str, meta: InputMeta, array: Array) -> None:
    try:
        datatype = datatype_of(array)
    except ValueError as error:
        raise BadInput(f"{where}: input {meta.name}: {error}") from error
    if datatype != meta.datatype:
        raise BadInput(f"{where}: input {meta.name} is {datatype}; the model wants {meta.datatype}")
    same = len(array.shape) == len(meta.shape)
    if not same or any(want not in (-1, size) for want, size in zip(meta.shape, array.shape, strict=True)):
        raise BadInput(f"{where}: input {meta.name} is {list(array.shape)}; the model wants {list(meta.shape)}")


def _json_lines(file: Path, inputs: Sequence[InputMeta], n_rows: int) -> list[Row]:
    """A line is a V2 body with `inputs`, or an object with the value of each input; the model's types count."""
    by_name = {one.name: one for one in inputs}
    rows: list[Row] = []
    for at, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = orjson.loads(line)
            values = {one["name"]: one["data"] for one in found["inputs"]} if "inputs" in found else found
            shapes = {one["name"]: tuple(one["shape"]) for one in found["inputs"]} if "inputs" in found else {}
            _same_names(f"{file} line {at}", values, inputs)
            row = {name: _value(by_name[name], value, shapes.get(name)) for name, value in values.items()}
        except (ValueError, KeyError, TypeError, MalformedReply) as error:
            raise BadInput(f"{file} line {at}: {error}") from error
        for name, array in row.items():
            _fits(f"{file} line {at}", by_name[name], array)
        rows.append(row)
    return rows


def _value(meta: InputMeta, value: Any, shape: tuple[int, ...] | None) -> Array:
    if shape is None:
        shape = np.shape(value)
        missing_batch = len(shape) == len(meta.shape) - 1
        shape = (1, *shape) if missing_batch else shape
    return from_json(meta.datatype, shape, value if isinstance(value, list) else [value])


def _text(file: Path, inputs: Sequence[InputMeta], n_rows: int) -> list[Row]:
    """A line per row: as it is for a model with one BYTES input, else as prepared token ids."""
    if len(inputs) == 1 and inputs[0].datatype == "BYTES":
        return _sentences(file, inputs[0], n_rows)
    return _token_ids(file, inputs)


def _sentences(file: Path, meta: InputMeta, n_rows: int) -> list[Row]:
    lines = [line for line in file.read_text().splitlines() if line.strip()]
    whole = len(lines) // n_rows * n_rows
    rows: list[Row] = []
    for at in range(0, whole, n_rows):
        batch = np.empty((n_rows, *(1 for _ in meta.shape[1:])), object)
        batch.ravel()[:] = [line.encode() for line in lines[at : at + n_rows]]
        _fits(f"{file}", meta, batch)
        rows.append({meta.name: batch})
    return rows


def _token_ids(file: Path, inputs: Sequence[InputMeta]) -> list[Row]:
    """Text as prepared token ids; no tokenizer is run here."""
    names = {one.name for one in inputs}
    if "input_ids" not in names or not names <= {"input_ids", "attention_mask", "token_type_ids"}:
        raise BadInput(
            f"{file}: text is for models with one BYTES input, or with input_ids and attention_mask, not {', '.join(sorted(names))}"
        )
    rows: list[Row] = []
    for at, line in enumerate(file.read_text().splitlines(), 1):
        if line.strip():
            rows.append(_sentence(f"{file} line {at}", line, inputs))
    return rows


def _sentence(where: str, line: str, inputs: Sequence[InputMeta]) -> Row:
    try:
        ids = np.array([[int(word) for word in line.split()]])
    except ValueError as error:
        raise BadInput(f"{where}: text must be prepared token ids (tokenize it first): {error}") from error
    filled = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {one.name: filled[one.name].astype(_dtype(one)) for one in inputs}
