"""Opening an .onnx file with ONNX Runtime on the CPU, for whatever backend does so. Knows nothing of what is run."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from server.backends.base import LoadError
from server.backends.onnx_values import reason_of

SPIN_US = 20
"""How long a pool's thread that has nothing to do looks for the next operator of the same call before it sleeps: to wake it takes
longer than most operators. More would take the core that the event loop needs (docs/decisions/0027)."""


def open_session(file: Path, threads: int, options: ort.SessionOptions) -> ort.InferenceSession:
    """One that uses `threads` threads per call. Raises LoadError when the file is missing, is not ONNX, or cannot be run here."""
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    options.add_session_config_entry("session.force_spinning_stop", "1")  # never between two calls
    try:
        return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises a dozen unrelated types, none of them public
        raise LoadError(reason_of(error).replace(f"{file.parent}/", "")) from None
