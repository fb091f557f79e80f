"""open_session: what it asks of the library, and what it says of files that cannot be opened."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest

from server.backends.base import LoadError
from server.backends.onnx_session import SPIN_US, open_session
from tests.models import affine


def test_its_threads_wait_briefly_for_the_next_operator_and_never_for_the_next_call(tmp_path: Path) -> None:
    file, options = tmp_path / "model.onnx", ort.SessionOptions()
    file.write_bytes(affine())
    open_session(file, 2, options)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == str(SPIN_US)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_a_file_that_is_no_onnx_is_refused_without_telling_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no model")
    with pytest.raises(LoadError) as told:
        open_session(file, 1, ort.SessionOptions())
    assert str(tmp_path) not in str(told.value)
