"""Whether answers are right, during the load: against a first pass, one request at a time, or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from loadtests.call import call
from loadtests.errors import BadInput, LoadTestError
from loadtests.protocols import Protocol
from loadtests.target import Target
from loadtests.tensors import Array
from loadtests.wire import Response

WRONG = "wrong answer"


@dataclass(frozen=True, slots=True)
class Expected:
    """One right answer; `body` is the very bytes it came in, or empty: most answers repeat them."""

    outputs: Mapping[str, Array]
    body: bytes


@dataclass(frozen=True, slots=True)
class Verifier:
    """Says what is wrong with an answer. Cheap for equal bytes; else outputs are compared within the tolerances."""

    expected: Sequence[Expected]
    rtol: float
    atol: float
    protocol: Protocol = Protocol.HTTP

    def __call__(self, index: int, response: Response) -> str:
        wanted = self.expected[index]
        if wanted.body and response.body == wanted.body:
            return ""
        try:
            found = self.protocol.decode(response)
        except LoadTestError as error:
            return f"{WRONG}: {error}"
        return self._differs(found, wanted.outputs)

    def _differs(self, found: Mapping[str, Array], wanted: Mapping[str, Array]) -> str:
        for name, right in wanted.items():
            if name not in found:
                return f"{WRONG}: no output {name}"
            if found[name].shape != right.shape:
                return f"{WRONG}: output {name} has another shape"
            same = found[name] == right if right.dtype.kind in "OSb" else np.isclose(found[name], right, self.rtol, self.atol)
            if not np.all(same):
                return f"{WRONG}: output {name} differs"
        return ""


def first_pass(to: Target, requests: Sequence[bytes], rtol: float, atol: float) -> Verifier:
    """Ask every request once, alone, and take the answers as right. Raises LoadTestError if one is not answered."""
    expected = []
    for request in requests:
        response = call(to.host, to.port, request, protocol=to.protocol)
        expected.append(Expected(to.protocol.decode(response), response.body))
    return Verifier(expected, rtol, atol, to.protocol)


def from_file(file: Path, n: int, rtol: float, atol: float, protocol: Protocol = Protocol.HTTP) -> Verifier:
    """Expected outputs for `n` requests: an npz with an array per output, or JSON lines of {output: values}."""
    try:
        outputs = _npz(file, n) if file.suffix == ".npz" else _lines(file)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"cannot read the expected outputs {file}: {error}") from error
    if len(outputs) != n:
        raise BadInput(f"{file} holds {len(outputs)} expected answers for {n} requests")
    return Verifier([Expected(one, b"") for one in outputs], rtol, atol, protocol)


def _npz(file: Path, n: int) -> list[dict[str, Array]]:
    with np.load(file, allow_pickle=False) as found:
        arrays = {name: np.split(found[name], n) for name in found.files}
    return [{name: parts[at] for name, parts in arrays.items()} for at in range(n)]


def _lines(file: Path) -> list[dict[str, Array]]:
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines() if line.strip()]
    return [{name: np.array(value) for name, value in one.items()} for one in lines]
