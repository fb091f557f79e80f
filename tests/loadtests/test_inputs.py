from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from loadtests.data import InputMeta
from loadtests.errors import BadInput
from loadtests.inputs import Asked, Row, lengths_of, prepare
from loadtests.lengths import sample
from loadtests.tensors import BF16

X = InputMeta("x", "FP32", (-1, 4))
TEXT = [InputMeta("input_ids", "INT64", (-1, -1)), InputMeta("attention_mask", "INT64", (-1, -1))]


def asked(file: Path | None, *, n: int = 8, rows: int = 1, lengths: str = "fixed:5") -> Asked:
    return Asked(file, n, rows, lengths, seed=1)


def shapes(rows: list[Row]) -> list[tuple[int, ...]]:
    return [array.shape for row in rows for array in row.values()]


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT8", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES"])
def test_random_tensors_have_the_models_type_and_shape(datatype: str) -> None:
    rows = prepare([InputMeta("x", datatype, (-1, 3, -1))], asked(None, rows=2))
    assert shapes(rows) == [(2, 3, 5)] * 8
    dtype = rows[0]["x"].dtype
    assert dtype == (BF16 if datatype == "BF16" else dtype)
    assert prepare([X], asked(None))[3]["x"].tolist() == prepare([X], asked(None))[3]["x"].tolist()


def test_random_texts_are_all_seen_and_of_one_length_each() -> None:
    rows = prepare(TEXT, asked(None, lengths="uniform:3:9"))
    assert all(row["input_ids"].shape == row["attention_mask"].shape for row in rows)
    assert all((row["attention_mask"] == 1).all() for row in rows)
    assert {row["input_ids"].shape[1] for row in rows} <= set(range(3, 10))


def test_inputs_that_are_too_large_are_refused_early() -> None:
    with pytest.raises(BadInput, match="1 GiB"):
        prepare([InputMeta("x", "FP64", (-1, 1 << 20))], asked(None, n=1000))
    with pytest.raises(BadInput, match="unknown V2 datatype"):
        prepare([InputMeta("x", "FP8", (-1, 1))], asked(None))
    with pytest.raises(BadInput, match="fixed batch"):
        prepare([InputMeta("x", "FP32", (4, 1))], asked(None, rows=3))


def test_an_npz_gives_rows(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, x=np.arange(28, dtype="f4").reshape(7, 4))
    rows = prepare([X], asked(file, rows=2))
    assert shapes(rows) == [(2, 4)] * 3
    assert rows[1]["x"][0].tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.zeros((3, 4), "i8")}, "input x is INT64; the model wants FP32"),
        ({"x": np.zeros((3, 4), "c8")}, "no V2 datatype"),
        ({"x": np.zeros((3, 5), "f4")}, r"\[1, 5\]; the model wants \[-1, 4\]"),
        ({"y": np.zeros((3, 4), "f4")}, "inputs are y; the model wants x"),
        ({"x": np.zeros((0, 4), "f4")}, "hold no row"),
    ],
)
def test_an_npz_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], match: str) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=match):
        prepare([X], asked(file))


def test_json_lines_are_bodies_or_plain_values(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    file.write_bytes(orjson.dumps(body) + b'\n\n{"x":[5,6,7,8]}\n{"x":[[1,2,3,4],[5,6,7,8]]}\n')
    rows = prepare([X], asked(file))
    assert shapes(rows) == [(1, 4), (1, 4), (2, 4)]
    assert rows[1]["x"].tolist() == [[5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", "line 1"),
        ('{"y":[1]}', "line 1: inputs are y"),
        ('{"x":["a"]}', "line 1"),
        ("[1]", "line 1"),
        ('{"x":[1]}', "line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, match: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(line)
    with pytest.raises(BadInput, match=match):
        prepare([X], asked(file))


def test_text_is_prepared_token_ids(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_text("101 7 102\n\n101 102\n")
    rows = prepare(TEXT, asked(file))
    assert [row["input_ids"].tolist() for row in rows] == [[[101, 7, 102]], [[101, 102]]]
    assert rows[0]["attention_mask"].tolist() == [[1, 1, 1]]
    file.write_text("hello world\n")
    with pytest.raises(BadInput, match="line 1: text must be prepared token ids"):
        prepare(TEXT, asked(file))
    with pytest.raises(BadInput, match="text is for models with one BYTES input"):
        prepare([X], asked(file))


@pytest.mark.parametrize(("shape", "wanted"), [((-1, 1), (2, 1)), ((-1,), (2,)), ((-1, -1), (2, 1))])
def test_text_goes_as_it_is_to_a_model_that_takes_it(tmp_path: Path, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    meta = InputMeta("text", "BYTES", shape)
    file = tmp_path / "x.txt"
    file.write_text("one sentence\n\nzwölf\nthree\nfour\nleft over\n")
    rows = prepare([meta], asked(file, rows=2))
    assert shapes(rows) == [wanted] * 2
    assert rows[0]["text"].ravel().tolist() == [b"one sentence", "zwölf".encode()]
    assert lengths_of([meta], rows) == [18, 9]
    with pytest.raises(BadInput, match="the model wants"):
        prepare([InputMeta("text", "BYTES", (-1, 3))], asked(file))


def test_lengths_are_those_of_free_axes() -> None:
    assert lengths_of(TEXT, prepare(TEXT, asked(None, n=3, lengths="fixed:5"))) == [5, 5, 5]
    assert lengths_of([X], prepare([X], asked(None))) == []


def test_files_of_other_kinds_and_missing_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"read from \.npz, \.jsonl, \.txt"):
        prepare([X], asked(tmp_path / "x.csv"))
    with pytest.raises(BadInput, match="cannot read the inputs"):
        prepare([X], asked(tmp_path / "x.npz"))
    (tmp_path / "junk.npz").write_bytes(b"junk")
    with pytest.raises(BadInput, match="cannot read the inputs"):
        prepare([X], asked(tmp_path / "junk.npz"))


def test_lengths_come_from_a_distribution_or_a_file(tmp_path: Path) -> None:
    assert sample("fixed:7", 3, 0).tolist() == [7, 7, 7]
    drawn = sample("lognormal:40:0.7:256", 4000, 0)
    assert (drawn.min() >= 1, drawn.max() <= 256, abs(float(np.median(drawn)) - 40) < 3) == (True, True, True)
    file = tmp_path / "lengths"
    file.write_text("3\n5\n")
    assert set(sample(str(file), 50, 0).tolist()) == {3, 5}
    for text in ("fixed:0", "fixed:nan", "uniform:9:3", "gamma:1:2", "lognormal:40", str(tmp_path / "none")):
        with pytest.raises(BadInput, match="lengths"):
            sample(text, 1, 0)
    file.write_text("0\n")
    with pytest.raises(BadInput, match="from 1 on"):
        sample(str(file), 1, 0)
