"""The process in which an upload is examined: `python -m server.intake.child FOLDER OPTIONS`.

Exit status 0: FOLDER is a checked, profiled version folder. 1: refused, with the reason on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.backends.base import Backends, LoadError, Session, Tokenizer
from server.backends.catalog import find_backends, plain_backend
from server.backends.hf_tokenizers import HfTokenizers
from server.contract.device import this_device
from server.contract.errors import ContractError
from server.contract.layout import FALLBACK_PROFILE, MANIFEST, PROFILE, REPORT, REPORT_DATA, read_folder, write_json
from server.contract.manifest import Manifest
from server.intake.build import MAX_ROWS, Intake, build_version, measure_again
from server.intake.checks import check_padding, check_rows, closeness
from server.intake.errors import IntakeError
from server.intake.inspect import Signature, read_signature
from server.intake.measure import Effort
from server.intake.samples import made_up_samples
from server.intake.texts import TextReader, check_vocabulary


def main(folder: Path, options: dict[str, Any]) -> int:
    """Examine `folder` and return the exit status."""
    try:
        if (folder / MANIFEST).exists():
            _examine_packed(folder, find_backends(), options["name"])
        else:
            lengths = tuple(options["lengths"]) if options["lengths"] else None
            intake = Intake(options["name"], lengths=lengths, max_rows=options["max_rows"] or MAX_ROWS)
            build_version(folder, plain_backend(), intake, _silent)
    except (IntakeError, ContractError, LoadError) as error:
        print(error)
        return 1
    return 0


def _examine_packed(folder: Path, backends: Backends, name: str) -> None:
    """A folder that was built elsewhere: digests, signature and rows are checked again, its profile only kept from here."""
    uploaded = read_folder(folder, "the uploaded folder", 0)
    picked = backends.pick(uploaded)
    files, backend, manifest = picked.files, picked.backend, picked.files.manifest
    if backend.model_file not in {entry.path for entry in manifest.files}:
        raise IntakeError(f"the manifest does not list {backend.model_file}; build the version again")
    known = {MANIFEST, PROFILE, FALLBACK_PROFILE, REPORT, REPORT_DATA, *(entry.path for entry in manifest.files)}
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in known)
    if strangers:
        raise IntakeError(f"the folder holds {strangers[0]!r}, which its manifest does not list; leave it out")
    with closing(backend.load(folder, threads=1)) as session:
        signature = read_signature(session.inputs, session.outputs)
        if (signature.inputs, signature.outputs) != (manifest.inputs, manifest.outputs):
            raise IntakeError("the manifest's inputs and outputs are not the model file's; build the version again")
        _check_again(session, signature, manifest)
        tokenizer = _check_text_again(folder, session, manifest)
    if files.profiles is None or files.profiles.device.difference(this_device(backend.runtime, backend.accelerator)):
        profile = measure_again(folder, backend, manifest, _silent, Effort(), tokenizer)
        write_json(folder / (FALLBACK_PROFILE if picked.instead else PROFILE), profile.to_json())
    if manifest.name != name:
        write_json(folder / MANIFEST, replace(uploaded.manifest, name=name).to_json())


def _check_again(session: Session, signature: Signature, manifest: Manifest) -> None:
    """What the manifest promises about rows and padding must hold for this file."""
    ragged = manifest.ragged
    samples = made_up_samples(signature, ragged.longest if ragged else 0)
    differs = closeness(manifest)
    lengths = (ragged.shortest, ragged.longest) if ragged else (0,)
    check_rows(session, signature, samples, manifest.max_rows, lengths, differs)
    if ragged and ragged.mixes:
        padding = check_padding(session, signature, samples, ragged, differs)
        if not padding.passed:
            raise IntakeError(
                f"the manifest says that lengths may share a batch, but {padding.detail}; build the version again"
            )


def _check_text_again(folder: Path, session: Session, manifest: Manifest) -> Tokenizer | None:
    """The tokenizer of a version that takes text must be one that this server can load, and this model's."""
    text, ragged = manifest.text, manifest.ragged
    if text is None or ragged is None:
        return None
    tokenizer = HfTokenizers().load(folder / text.tokenizer, ragged.longest)
    check_vocabulary(session, TextReader(tokenizer, text, manifest.inputs, ragged), ragged)
    return tokenizer


def _silent(_what: str, _done: int, _of: int) -> None:
    """Nobody watches this process's progress."""


def _end_with_parent() -> None:
    """Standard input closes when the server dies, however it dies; nobody wants the verdict then."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(3)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
