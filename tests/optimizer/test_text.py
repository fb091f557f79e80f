"""Versions that take text: from a Python file, from an .onnx file, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")

from optimizer.cli import main
from optimizer.errors import OptimizeError, SourceError
from optimizer.job import Request, optimize
from optimizer.options import Options
from optimizer.runs import Verdict
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.layout import read_version
from tests import models
from tests.optimizer.bench import QUICK, RAGGED, TEXT, WORDS, Bench, Recorder


def test_a_python_file_gives_its_tokenizer(bench: Bench) -> None:
    bench.write(TEXT)
    file = bench.write_tokenizer()
    outcome = bench.run()
    assert outcome.verdict is Verdict.PUBLISHED
    files = read_version(bench.repository / "tiny", 1)
    text = files.manifest.text
    assert text is not None
    assert (text.input, text.ids, text.mask, text.types, text.embedding) == ("text", "ids", "mask", None, "mean")
    assert text.max_bytes == 9 * 32
    assert (files.folder / text.tokenizer).read_bytes() == file.read_bytes()
    assert [check.name for check in files.manifest.checks] == ["verify", "parity", "text", "rows", "padding", "vocabulary"]
    check = next(check for check in files.manifest.checks if check.name == "text")
    assert check.detail.startswith("3 texts give the samples' own tokens; 6 answers differ from PyTorch by ")
    assert files.profiles.text is not None
    assert files.profiles.text.text_s > 0
    assert "token ids up to 7 are in the model" in outcome.report.read_text(encoding="utf-8")
    assert bench.run(slo_s=None).verdict is Verdict.UNCHANGED


def test_another_tokenizer_makes_another_version(bench: Bench) -> None:
    bench.write(TEXT)
    bench.write_tokenizer()
    bench.run()
    bench.write_tokenizer([*WORDS, "ferry"])
    assert bench.run(slo_s=None).verdict is Verdict.PUBLISHED
    assert bench.live == [1, 2]


@pytest.mark.parametrize(
    ("words", "stage", "says"),
    [
        (["[UNK]", "[C]", "[S]", "tide", "low", "high", "boat", "late"], "text", "texts()[1] gives ids [1, 5] [1, 4, 3, 6, 2], samples()[1] has"),
        ([*WORDS, *(f"word{n}" for n in range(10))], "intake", "the tokenizer makes ids up to 17, which the model refuses"),
    ],
)  # fmt: skip
def test_another_models_tokenizer_is_rejected(bench: Bench, words: list[str], stage: str, says: str) -> None:
    bench.write(TEXT)
    bench.write_tokenizer(words)
    outcome = bench.run()
    assert outcome.verdict is Verdict.REJECTED
    assert outcome.execution is not None
    assert outcome.execution.rejection is not None
    assert outcome.execution.rejection.stage.name == stage
    assert says in outcome.execution.rejection.result.note
    assert bench.live == []


def test_a_file_that_is_no_tokenizer_is_rejected(bench: Bench) -> None:
    bench.write(TEXT)
    bench.write("{}", "tokenizer.json")
    outcome = bench.run()
    assert outcome.execution is not None
    assert outcome.execution.rejection is not None
    assert "tokenizer.json is not a tokenizer" in outcome.execution.rejection.result.note


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("def texts", "def words", r"texts\(\) is missing; define: def texts\(\)"),
        ('"low tide boat", ', "", r"texts\(\) must return the texts of the 3 samples"),
        ('    return ["", ', '    return [3, "", ', r"texts\(\) must return the texts of the 3 samples"),
        (
            '/ "tokenizer.json"',
            '/ "nowhere.json"',
            r"tokenizer\(\) returned .*nowhere.json.*; return the path of a tokenizer.json",
        ),
        ("def tokenizer", "def spare", r"EMBEDDING and TEXT_INPUTS are for models that take text; define tokenizer\(\)"),
        ('EMBEDDING = "mean"', "EMBEDDING = 3", "EMBEDDING must be the name of an output"),
        ('{"ids": "ids", "mask": "mask"}', '{"mask": "mask"}', "TEXT_INPUTS must name the inputs of a tokenizer's ids"),
        (
            '{"ids": "ids", "mask": "mask"}',
            '{"ids": "ids", "pos": "x"}',
            "TEXT_INPUTS must name the inputs of a tokenizer's ids",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_named(bench: Bench, old: str, new: str, says: str) -> None:
    assert old in TEXT
    bench.write(TEXT.replace(old, new))
    bench.write_tokenizer()
    with pytest.raises(SourceError, match=says):
        bench.run()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('EMBEDDING = "mean"', 'EMBEDDING = "count"', "an embedding is FP32 [batch, size], output 'count' is INT64"),
        ('EMBEDDING = "mean"', 'EMBEDDING = "middle"', "the embedding 'middle' is no output; there are mean, count"),
        ('TEXT_INPUTS = {"ids": "ids", "mask": "mask"}', "", "there must be one for token ids with a free axis"),
        ('{"ids": "ids", "mask": "mask"}', '{"ids": "ids"}', "texts()[0] gives no mask"),
    ],
)
def test_text_that_does_not_fit_the_model_is_rejected(bench: Bench, old: str, new: str, says: str) -> None:
    assert old in TEXT
    bench.write(TEXT.replace(old, new))
    bench.write_tokenizer()
    outcome = bench.run()
    assert outcome.execution is not None
    assert outcome.execution.rejection is not None
    assert says in outcome.execution.rejection.result.note


def test_a_file_without_a_tokenizer_takes_tensors_only(bench: Bench) -> None:
    bench.write(RAGGED)
    outcome = bench.run()
    assert outcome.version is not None
    assert outcome.version.manifest.text is None
    assert outcome.version.profiles.text is None


def onnx_request(folder: Path, **options: object) -> Request:
    (folder / "bag.onnx").write_bytes(models.bag())
    (folder / "words.json").write_text(models.word_tokenizer(), encoding="utf-8")
    made = Options(lengths=(2, 16), max_rows=2, effort=QUICK, **options)  # type: ignore[arg-type]
    return Request(folder / "bag.onnx", folder / "repository", folder / "cache", 1.0, "test", options=made)


def test_a_finished_onnx_file_can_be_given_a_tokenizer(tmp_path: Path) -> None:
    names = {"ids": "ids", "mask": "mask"}
    request = onnx_request(tmp_path, tokenizer=tmp_path / "words.json", text_inputs=names, embedding="embedding")
    outcome = optimize(request, OnnxRuntimeBackend(), Recorder())
    assert outcome.version is not None
    text = read_version(tmp_path / "repository" / "bag", 1).manifest.text
    assert text is not None
    assert (text.tokenizer, text.embedding) == ("tokenizer.json", "embedding")


def test_options_for_text_must_fit_the_source(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(OptimizeError, match="give the --tokenizer that reads texts"):
        optimize(onnx_request(tmp_path, embedding="embedding"), OnnxRuntimeBackend(), Recorder())
    with pytest.raises(OptimizeError, match=r"no such file; give a tokenizer\.json"):
        optimize(onnx_request(tmp_path, tokenizer=tmp_path / "nowhere.json"), OnnxRuntimeBackend(), Recorder())
    bench.write(TEXT)
    options = Options(tokenizer=bench.write_tokenizer())
    with pytest.raises(OptimizeError, match=r"--tokenizer, --text-input and --embedding are for \.onnx files"):
        optimize(
            Request(bench.source, bench.repository, bench.cache, 1.0, "test", options=options), OnnxRuntimeBackend(), Recorder()
        )


def test_the_command_line_takes_a_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_request(tmp_path)
    flags = ["--slo", "1s", "--lengths", "2:16", "--repository", str(tmp_path / "repository")]
    flags += ["--tokenizer", str(tmp_path / "words.json"), "--embedding", "embedding"]
    assert main([str(tmp_path / "bag.onnx"), *flags]) == 1
    assert "there must be one for token ids" in capsys.readouterr().out
    flags += ["--text-input", "ids=ids", "--text-input", "mask=mask", "--max-rows", "1"]
    assert main([str(tmp_path / "bag.onnx"), *flags]) == 0
    printed = capsys.readouterr().out
    assert "per token" in printed
    report = (tmp_path / "repository" / "bag" / "1" / "report.html").read_text(encoding="utf-8")
    assert "--text-input ids=ids --text-input mask=mask --embedding embedding" in report
    with pytest.raises(SystemExit):
        main([str(tmp_path / "bag.onnx"), "--text-input", "ids"])
    assert "is not ROLE=INPUT" in capsys.readouterr().err
