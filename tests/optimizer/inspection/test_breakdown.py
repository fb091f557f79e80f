"""The steps of a request: what each does is right; how long it takes is not asserted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import orjson
import pytest

from optimizer.errors import OptimizeError
from optimizer.inspection.breakdown import decode, encode, request_body, text_of, time_steps
from optimizer.inspection.versions import find_version, made_up_requests
from server.backends.catalog import plain_backend
from server.backends.hf_tokenizers import HfTokenizers
from server.contract.layout import VersionFiles
from server.intake.texts import Read, TextReader
from tests.models import KINDS, identity, publish_model


def files_of(text: str, repository: Path) -> VersionFiles:
    return find_version(text, repository).read()


def reader_of(files: VersionFiles) -> TextReader:
    manifest = files.manifest
    assert manifest.text is not None
    assert manifest.ragged is not None
    tokenizer = HfTokenizers().load(files.folder / manifest.text.tokenizer, manifest.ragged.longest)
    return TextReader(tokenizer, manifest.text, manifest.inputs, manifest.ragged)


@pytest.mark.parametrize("datatype", sorted(KINDS))
def test_a_body_says_what_the_arrays_are(tmp_path: Path, datatype: str) -> None:
    publish_model(tmp_path, "same", identity(datatype), max_rows=2)
    manifest = files_of("same", tmp_path).manifest
    request = made_up_requests(manifest)[0]
    found = decode(request_body(manifest, request))
    assert found["x"].dtype == request["x"].dtype
    np.testing.assert_array_equal(found["x"], request["x"])
    answer = orjson.loads(encode(manifest, {"y": request["x"]}))
    assert answer["outputs"][0]["shape"] == [1, 2]


def test_a_text_has_the_tokens_that_were_asked_for(made: Path) -> None:
    reader = reader_of(files_of("words", made))
    (read,) = reader.read([text_of(reader, 9)], [False])
    assert isinstance(read, Read)
    assert read.n_tokens == 9
    with pytest.raises(OptimizeError, match="no text of 999 tokens"):
        text_of(reader, 999)


def test_steps_of_tensors_and_of_texts(made: Path) -> None:
    files = files_of("words", made)
    batch = {name: np.ones((2, 6), np.int64) for name in ("ids", "mask")}
    with closing(plain_backend().load(files.folder, 1)) as session:
        tensors = time_steps(session, files.manifest, batch, 3, None, 6)
        texts = time_steps(session, files.manifest, batch, 3, reader_of(files), 6)
    assert [step.name for step in tensors] == ["decode", "batch", "forward", "split", "encode"]
    assert [step.name for step in texts] == ["decode", "text", "batch", "forward", "split", "encode"]
    assert all(step.seconds > 0 and step.n_runs == 3 for step in (*tensors, *texts))
    assert texts[1].what == "2 text(s) to tokens"


def test_a_model_that_fails_is_named(made: Path) -> None:
    files = files_of("affine", made)
    with closing(plain_backend().load(files.folder, 1)) as session, pytest.raises(OptimizeError, match="the model fails"):
        time_steps(session, files.manifest, {"x": np.ones((1, 3), np.float32)}, 3, None, 0)
