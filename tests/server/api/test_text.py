"""Raw text over V2 on a real server: what is accepted, what is told, what is refused, and that each gets its own answer."""

from __future__ import annotations

import random
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from tests.child_server import ChildServer, Reply, call
from tests.models import N_WORDS, word_ids

WORDS = "/v2/models/words/infer"
LONG = " ".join(["w1"] * 31)


def text_input(*texts: str, shape: list[int] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": shape or [len(texts)], "data": list(texts), **fields}


def ids_inputs(ids: list[int]) -> list[dict[str, Any]]:
    shape = [1, len(ids)]
    return [
        {"name": name, "datatype": "INT64", "shape": shape, "data": data}
        for name, data in (("ids", ids), ("mask", [1] * len(ids)))
    ]


def ask(server: ChildServer, *inputs: dict[str, Any], **parameters: Any) -> Reply:
    return server.call("POST", WORDS, {"inputs": list(inputs), "parameters": parameters})


def rows(reply: Reply) -> Any:
    assert reply.status == 200, reply
    output = reply.json["outputs"][0]
    return np.array(output["data"], np.float32).reshape(output["shape"])


@pytest.mark.parametrize("text", ["w1", "w5 w5 w7", "", "   ", " ".join(f"w{n}" for n in range(30))])
def test_a_text_alone_has_the_answer_of_its_ids_to_the_last_bit(server: ChildServer, text: str) -> None:
    assert np.array_equal(rows(ask(server, text_input(text))), rows(ask(server, *ids_inputs(word_ids(text)))))


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_several_texts_of_different_lengths_come_back_in_order(server: ChildServer, shape: list[int]) -> None:
    texts = ["w1 w2", "w3 w4 w5 w6 w7 w8", ""]
    found = rows(ask(server, text_input(*texts, shape=shape)))
    assert found.shape == (3, 4)
    for row, text in zip(found, texts, strict=True):
        np.testing.assert_allclose(row, rows(ask(server, *ids_inputs(word_ids(text))))[0], atol=1e-4)


def test_binary_text_in_and_binary_out(server: ChildServer) -> None:
    texts = [b"w1 w2", b"w59"]
    blob = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    item = f'{{"name":"text","datatype":"BYTES","shape":[2],"parameters":{{"binary_data_size":{len(blob)}}}}}'
    head = f'{{"inputs":[{item}],"parameters":{{"binary_data_output":true}}}}'.encode()
    reply = server.call("POST", WORDS, head + blob, {"Inference-Header-Content-Length": str(len(head))})
    assert reply.status == 200, reply
    found = np.frombuffer(reply.body[int(reply.headers["inference-header-content-length"]) :], "<f4").reshape(2, 4)
    np.testing.assert_allclose(found, rows(ask(server, text_input("w1 w2", "w59"))), atol=1e-4)


def test_a_text_with_too_many_tokens_is_refused_unless_it_may_be_cut(server: ChildServer) -> None:
    refused = ask(server, text_input(LONG))
    assert refused.status == 400
    assert "the text has 33 tokens, 2 to 32 are possible; shorten it, or set 'truncate' to true" in refused.error
    cut = rows(ask(server, text_input(LONG), truncate=True))
    assert np.array_equal(cut, rows(ask(server, text_input(LONG[:-3]))))


@pytest.mark.parametrize(
    ("inputs", "parameters", "says"),
    [
        ([text_input("w" * 1025)], {}, "the text of row 0 has 1025 bytes; 1024 are possible: shorten it"),
        ([text_input("ü" * 513, "a", shape=[2])], {}, "the text of row 0 has 1026 bytes"),
        ([text_input(*["w1"] * 9)], {}, "input 'text' has 9 rows; a request may have 1 to 8: split it"),
        ([text_input(shape=[0])], {}, "has 0 rows"),
        ([text_input("a", "b", shape=[1, 2])], {}, "input 'text' has shape [-1], the request says [1, 2]"),
        ([text_input("a", shape=[1, 1, 1])], {}, "input 'text' has shape [-1]"),
        ([text_input("a", datatype="UINT8")], {}, "input 'text' is BYTES, the request says 'UINT8'"),
        ([text_input("a"), text_input("b")], {}, "input 'text' is given twice"),
        ([text_input("a"), *ids_inputs([1, 2])], {}, "give either 'text' or tensors, not both"),
        ([ids_inputs([1, 2])[0]], {}, "input 'mask' is missing; it wants ids (INT64 [-1, -1]), mask (INT64 [-1, -1]); or instead text"),
        ([text_input("a")], {"truncate": 1}, "parameter 'truncate' must be true or false"),
        ([text_input("a")], {"truncate": "yes"}, "parameter 'truncate' must be true or false"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_reason(server: ChildServer, inputs: Any, parameters: Any, says: str) -> None:
    reply = ask(server, *inputs, **parameters)
    assert reply.status == 400
    assert says in reply.error


def test_bytes_that_are_not_utf_8_are_refused(server: ChildServer) -> None:
    blob = struct.pack("<I", 2) + b"\xff\xfe"
    head = b'{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}}]}'
    reply = server.call("POST", WORDS, head + blob, {"Inference-Header-Content-Length": str(len(head))})
    assert reply.status == 400
    assert "not UTF-8" in reply.error
    assert (
        server.call("POST", WORDS, rb'{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["\ud800"]}]}').status
        == 400
    )


def test_metadata_lists_what_a_client_must_send_together_and_tells_of_the_text_beside_it(server: ChildServer) -> None:
    metadata = server.call("GET", "/v2/models/words").json
    assert [entry["name"] for entry in metadata["inputs"]] == ["ids", "mask"]
    told = metadata["parameters"]
    assert (told["text_input"], told["text_instead_of"]) == ("text", "ids, mask")
    assert (told["text_max_tokens"], told["text_max_bytes"], told["embedding"]) == ("32", "1024", "embedding")
    config = server.call("GET", "/v2/models/words/config").json
    assert [entry["name"] for entry in config["input"]] == ["ids", "mask"]
    assert config["parameters"]["text_input"] == {"string_value": "text"}
    assert "slo_ms" in config["parameters"]
    plain = server.call("GET", "/v2/models/affine").json
    assert "parameters" not in plain
    assert set(server.call("GET", "/v2/models/affine/config").json["parameters"]) == {"classes", "placement", "slo_ms"}


def test_a_model_without_a_tokenizer_takes_no_text(server: ChildServer) -> None:
    reply = server.call("POST", "/v2/models/masked/infer", {"inputs": [text_input("a")]})
    assert reply.status == 400
    assert "has no input 'text'" in reply.error


@pytest.mark.parametrize("seed", [1, 2])
def test_texts_and_ids_mixed_on_64_connections_each_get_their_own_answer(server: ChildServer, seed: int) -> None:
    rng = random.Random(seed)
    table = np.array([rows(ask(server, *ids_inputs([n, n])))[0] for n in range(N_WORDS + 3)], np.float64)
    asked: list[tuple[list[list[int]], list[dict[str, Any]]]] = []
    for _ in range(64 * 8):
        texts = [
            " ".join(f"w{rng.randrange(N_WORDS)}" for _ in range(rng.randrange(30))) for _ in range(rng.choice([1, 1, 1, 4]))
        ]
        if rng.random() < 0.5:
            asked.append(([word_ids(text) for text in texts], [text_input(*texts)]))
        else:
            asked.append(([word_ids(texts[0])], ids_inputs(word_ids(texts[0]))))

    def one_connection(mine: list[tuple[list[list[int]], list[dict[str, Any]]]]) -> None:
        connection = server.connect()
        for all_ids, inputs in mine:
            found = rows(call(connection, "POST", WORDS, {"inputs": inputs}))
            wanted = np.array([table[ids].mean(axis=0) for ids in all_ids])
            np.testing.assert_allclose(found, wanted, atol=1e-4)
        connection.close()

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(one_connection, [asked[n::64] for n in range(64)]))


def test_the_books_balance_and_the_tokenizers_stage_is_in_them(tiny_repository: Path, tmp_path: Path) -> None:
    with ChildServer(tiny_repository, tmp_path / "log") as server:
        for n in range(10):
            assert ask(server, text_input(*[f"w{n} w1"] * (1 + n % 3))).status == 200
        assert ask(server, text_input(LONG)).status == 400
        models = server.call("GET", "/v2/models/words/stats").json["model_stats"]
        numbers = models[0]["inference_stats"]
        assert (numbers["success"]["count"], numbers["fail"]["count"]) == (19, 1)
        assert models[0]["inference_count"] == 19
        spent = sum(numbers[kind]["ns"] for kind in ("queue", "compute_input", "compute_infer", "compute_output"))
        assert spent <= numbers["success"]["ns"] + 8  # each figure is rounded by itself
        labels = (("model", "words"), ("version", "1"))
        metrics = server.metrics()
        assert metrics["ferry_tokenize_seconds_count", labels] == 19
        assert metrics["ferry_in_flight", labels] == 0
        assert 0 < metrics["ferry_tokenize_seconds_sum", labels] * 1e9 <= numbers["compute_input"]["ns"]


def test_tritonclient_asks_in_text(server: ChildServer) -> None:
    triton = pytest.importorskip("tritonclient.http")
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        for binary in (True, False):
            made = triton.InferInput("text", [2, 1], "BYTES")
            made.set_data_from_numpy(np.array([["w1 w2"], ["w9"]], dtype=object), binary_data=binary)
            outputs = [triton.InferRequestedOutput("embedding", binary_data=binary)]
            found = client.infer("words", [made], outputs=outputs).as_numpy("embedding")
            np.testing.assert_allclose(found, rows(ask(server, text_input("w1 w2", "w9"))), atol=1e-4)
