from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from loadtests.errors import BadInput, ServerError
from loadtests.target import Target
from loadtests.verify import Verifier, first_pass, from_file
from loadtests.wire import Head, Response
from tests.loadtests.conftest import Serve
from tests.loadtests.test_closed_loop import HOST, request
from tests.loadtests.test_wire import response


def answer(*values: float, name: str = "y") -> bytes:
    one = {"name": name, "datatype": "FP32", "shape": [1, len(values)], "data": values}
    return orjson.dumps({"model_name": "m", "outputs": [one]})


def reply(body: bytes) -> Response:
    return Response(Head(200, {}, len(body), False), body)


def check(verifier: Verifier) -> None:
    assert verifier(0, reply(answer(1, 2))) == ""
    assert verifier(0, reply(answer(1, 2.0001))) == ""
    assert verifier(0, reply(answer(1, 3))) == "wrong answer: output y differs"
    assert verifier(0, reply(answer(1, 2, 3))) == "wrong answer: output y has another shape"
    assert verifier(0, reply(answer(1, name="z"))) == "wrong answer: no output y"
    assert verifier(0, reply(b"oops")).startswith("wrong answer: not a V2 answer")
    assert verifier(1, reply(answer(3, 4))) == ""


def test_a_first_pass_is_taken_as_right(serve: Serve) -> None:
    port = serve(lambda number, whole: [response(b"200 OK", answer(2 * number + 1, 2 * number + 2))]).port
    check(first_pass(Target(HOST, port, "m", None), [request(b"a"), request(b"b")], 1e-3, 1e-5))


def test_a_first_pass_without_an_answer_is_refused(serve: Serve) -> None:
    port = serve(lambda number, whole: [response(b"400 Bad Request", b'{"error":"wrong dtype"}')]).port
    with pytest.raises(ServerError, match="wrong dtype"):
        first_pass(Target(HOST, port, "m", None), [request(b"a")], 1e-3, 1e-5)


def test_expected_outputs_come_from_files(tmp_path: Path) -> None:
    npz, lines = tmp_path / "y.npz", tmp_path / "y.jsonl"
    np.savez(npz, y=np.array([[1, 2], [3, 4]], "f4"))
    lines.write_text('{"y":[[1,2]]}\n{"y":[[3,4]]}\n')
    check(from_file(npz, 2, 1e-3, 1e-5))
    check(from_file(lines, 2, 1e-3, 1e-5))
    with pytest.raises(BadInput, match="2 expected answers for 3 requests"):
        from_file(lines, 3, 1e-3, 1e-5)
    lines.write_text("oops")
    with pytest.raises(BadInput, match="cannot read the expected outputs"):
        from_file(lines, 1, 1e-3, 1e-5)
