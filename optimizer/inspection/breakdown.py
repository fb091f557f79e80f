"""Where the time of a request goes, step by step: decode, text, batch, forward, split, encode.

Each step is timed alone, in this process, with the libraries that a server uses; queueing and the network are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import orjson

from optimizer.errors import OptimizeError
from server.backends.base import NUMPY_TYPES, Array, BatchError, Session
from server.contract.manifest import Manifest
from server.contract.tensors import DataType, TensorSpec
from server.intake.texts import Read, TextReader
from server.intake.timer import now

MOST_S = 2.0
"""For one step; slow ones are timed less often than was asked for."""

_LEAST_RUNS = 3
_WORDS = [
    "a",
    "request",
    "that",
    "waits",
    "for",
    "others",
    "to",
    "share",
    "a",
    "batch",
    "with",
    "must",
    "not",
    "wait",
    "longer",
    "than",
    "its",
    "objective",
    "allows",
]


@dataclass(frozen=True, slots=True)
class Step:
    """`seconds`: the median of `n_runs`. `what`: what was timed, for people."""

    name: str
    what: str
    seconds: float
    n_runs: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def time_steps(
    session: Session, manifest: Manifest, batch: Mapping[str, Array], n_runs: int, reader: TextReader | None, length: int
) -> list[Step]:
    """Of a request with the inputs `batch` [rows, …]; with a reader, of one with that many texts of about `length` tokens."""
    rows = len(next(iter(batch.values())))
    steps: list[Step] = []
    if reader is not None:
        text = text_of(reader, length)
        steps += _text_steps(reader, [text] * rows, n_runs)
        read = reader.read([text] * rows, [True] * rows)
        batch = _join([one.inputs for one in read if isinstance(one, Read)])
    else:
        body = request_body(manifest, batch)
        steps.append(_time("decode", f"JSON of {len(body):,} bytes to arrays", lambda: decode(body), n_runs))
    parts = _split(batch, rows)
    steps.append(_time("batch", f"{rows} row(s) put together", lambda: _join(parts), n_runs))
    forward = _time("forward", "the model", lambda: session.run(batch), n_runs)
    outputs = {spec.name: array for spec, array in zip(session.outputs, session.run(batch), strict=True)}
    answer = encode(manifest, outputs)
    return [
        *steps, forward,
        _time("split", "answers cut into rows", lambda: _split(outputs, rows), n_runs),
        _time("encode", f"arrays to JSON of {len(answer):,} bytes", lambda: encode(manifest, outputs), n_runs),
    ]  # fmt: skip


def text_of(reader: TextReader, n_tokens: int) -> str:
    """Words that become so many tokens, or as few more as words allow. Raises OptimizeError when none do."""
    words: list[str] = []
    while len(words) <= n_tokens:
        words.append(_WORDS[len(words) % len(_WORDS)])
        (read,) = reader.read([" ".join(words)], [True])
        if isinstance(read, Read) and read.n_tokens >= n_tokens:
            return " ".join(words)
    raise OptimizeError(f"no text of {n_tokens} tokens could be made up for this tokenizer; give another --length")


def request_body(manifest: Manifest, batch: Mapping[str, Array]) -> bytes:
    """An infer request of the V2 protocol in JSON, as clients send it."""
    return orjson.dumps(
        {"inputs": [_tensor(spec, batch[spec.name]) for spec in manifest.inputs]}, option=orjson.OPT_SERIALIZE_NUMPY
    )


def decode(body: bytes) -> dict[str, Array]:
    """What request_body wrote, as arrays."""
    arrays = {}
    for tensor in orjson.loads(body)["inputs"]:
        data = tensor["data"]
        if tensor["datatype"] == DataType.BYTES.value:
            data = [item.encode() for item in data]
        arrays[tensor["name"]] = np.array(data, dtype=NUMPY_TYPES[tensor["datatype"]]).reshape(tensor["shape"])
    return arrays


def encode(manifest: Manifest, outputs: Mapping[str, Array]) -> bytes:
    """An infer response of the V2 protocol in JSON."""
    tensors = [_tensor(spec, outputs[spec.name]) for spec in manifest.outputs]
    return orjson.dumps({"model_name": manifest.name, "outputs": tensors}, option=orjson.OPT_SERIALIZE_NUMPY)


def _text_steps(reader: TextReader, texts: Sequence[str], n_runs: int) -> list[Step]:
    body = orjson.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}]})
    return [
        _time("decode", f"JSON of {len(body):,} bytes to texts", lambda: orjson.loads(body)["inputs"][0]["data"], n_runs),
        _time("text", f"{len(texts)} text(s) to tokens", lambda: reader.read(texts, [True] * len(texts)), n_runs),
    ]


def _tensor(spec: TensorSpec, array: Array) -> dict[str, Any]:
    data: object = np.ascontiguousarray(array).reshape(-1)
    if spec.datatype is DataType.BYTES:
        data = [item.decode() for item in array.reshape(-1)]
    return {"name": spec.name, "datatype": spec.datatype.value, "shape": list(array.shape), "data": data}


def _split(batch: Mapping[str, Array], rows: int) -> list[dict[str, Array]]:
    return [{name: array[n : n + 1] for name, array in batch.items()} for n in range(rows)]


def _join(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _time(name: str, what: str, action: Callable[[], object], n_runs: int) -> Step:
    """After one run that is not counted. Raises OptimizeError when the model fails."""
    times: list[float] = []
    try:
        action()
        stop_at = now() + MOST_S
        while len(times) < n_runs and (len(times) < _LEAST_RUNS or now() < stop_at):
            began_at = now()
            action()
            times.append(now() - began_at)
    except BatchError as error:
        raise OptimizeError(f"the model fails: {error}") from None
    return Step(name, what, median(times), len(times))
