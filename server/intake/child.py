"""The process in which an upload is examined: `python -m server.intake.child FOLDER OPTIONS`.

Exit status 0: FOLDER is a checked, profiled version folder. 1: refused, with the reason on standard output.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.backends.base import Backend, LoadError
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.device import this_device
from server.contract.errors import ContractError
from server.contract.layout import MANIFEST, PROFILE, read_folder, write_json
from server.intake.build import MAX_ROWS, Intake, build_version, measure_again
from server.intake.checks import check_rows
from server.intake.errors import IntakeError
from server.intake.inspect import read_signature
from server.intake.measure import Effort
from server.intake.samples import made_up_samples


def main(folder: Path, options: dict[str, Any]) -> int:
    """Examine `folder` and return the exit status."""
    backend = OnnxRuntimeBackend()
    try:
        if (folder / MANIFEST).exists():
            _examine_packed(folder, backend, options["name"])
        else:
            lengths = tuple(options["lengths"]) if options["lengths"] else None
            intake = Intake(options["name"], lengths=lengths, max_rows=options["max_rows"] or MAX_ROWS)
            build_version(folder, backend, intake, _silent)
    except (IntakeError, ContractError, LoadError) as error:
        print(error)
        return 1
    return 0


def _examine_packed(folder: Path, backend: Backend, name: str) -> None:
    """A folder that was built elsewhere: digests, signature and rows are checked again, its profile only kept from here."""
    files = read_folder(folder, "the uploaded folder", 0)
    manifest = files.manifest
    if manifest.backend != backend.name:
        raise IntakeError(f"the uploaded folder is for backend {manifest.backend!r}; this server has {backend.name}")
    session = backend.load(folder, threads=1)
    try:
        signature = read_signature(session.inputs, session.outputs)
        if (signature.inputs, signature.outputs) != (manifest.inputs, manifest.outputs):
            raise IntakeError("the manifest's inputs and outputs are not the model file's; build the version again")
        longest = manifest.ragged.longest if manifest.ragged else 0
        check_rows(session, signature, made_up_samples(signature, longest), manifest.max_rows, (longest,))
    finally:
        session.close()
    if files.profile.device.difference(this_device(backend.runtime)):
        write_json(folder / PROFILE, measure_again(folder, backend, manifest, _silent, Effort()).to_json())
    if manifest.name != name:
        write_json(folder / MANIFEST, replace(manifest, name=name).to_json())


def _silent(_what: str, _done: int, _of: int) -> None:
    """Nobody watches this process's progress."""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
