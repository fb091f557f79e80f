"""The whole way from a model file in a staging folder to a checked, profiled version folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from server.backends.base import Array, Backend, BatchError, LoadError, OnCard, Session, Tokenizer
from server.contract.device import this_device
from server.contract.errors import ContractError
from server.contract.layout import LINEAGE, MANIFEST, PROFILE, TOKENIZER, describe_file, write_json
from server.contract.manifest import Check, Manifest, Ragged
from server.contract.profiles import Profiles
from server.contract.text import TextCost, TextInput, check_text
from server.intake.checks import Differs, check_padding, check_rows, excess
from server.intake.errors import IntakeError
from server.intake.inspect import Signature, read_signature
from server.intake.measure import Effort, Progress, grid_lengths, grid_rows, measure_placements
from server.intake.samples import Samples, made_up_samples
from server.intake.texts import TextReader, TextWish, check_vocabulary, describe_text, measure_text

MAX_ROWS = 64
SHORTEST, LONGEST = 1, 512


@dataclass(frozen=True, slots=True)
class Intake:
    """What is known about a model besides its file.

    `singles`: real inputs, each name → array [1, …] (empty: made up). `lengths`: least and greatest size of the
    ragged axis. `pads`: fill values by input name, 0 where absent. `checks` and `lineage_sha256` come from earlier stages.
    `text`: how to take raw text, with the tokenizer beside the model file; None: not at all. `differs`: how closely rows must agree
    with those that stand alone.
    """

    name: str
    singles: Sequence[Mapping[str, Array]] = ()
    lengths: tuple[int, int] | None = None
    pads: Mapping[str, int | float] = field(default_factory=dict)
    max_rows: int = MAX_ROWS
    checks: tuple[Check, ...] = ()
    lineage_sha256: str | None = None
    effort: Effort = field(default_factory=Effort)
    text: TextWish | None = None
    differs: Differs = excess


def build_version(folder: Path, backend: Backend, intake: Intake, progress: Progress) -> tuple[Manifest, Profiles]:
    """Check and measure `folder/<model file>`, then write manifest.json and profile.json beside it.

    Raises IntakeError when the file is not a model of this backend or fails a check; nothing is written then.
    """
    progress("loading", 0, 1)
    with closing(_load(backend, folder, threads=1)) as session:
        signature = read_signature(session.inputs, session.outputs)
        samples, ragged = prepare(signature, intake)
        max_rows = intake.max_rows if signature.batches else 1
        checks, ragged = _check(session, signature, samples, ragged, max_rows, progress, intake.differs)
        readable = None
        if intake.text is not None:
            readable = _prepare_text(folder, intake.text, session, signature, ragged)
            checks = (*checks, readable.check)
    profiles = _measure(folder, backend, samples, ragged, max_rows, progress, intake.effort)
    if readable is not None:
        profiles = profiles.with_text(readable.cost)
    optional = (TOKENIZER,) if readable else ()
    names = [backend.model_file, *optional, *(name for name in (LINEAGE,) if (folder / name).exists())]
    manifest = Manifest(
        name=intake.name,
        backend=backend.name,
        files=tuple(describe_file(folder / name) for name in names),
        inputs=signature.inputs,
        outputs=signature.outputs,
        ragged=ragged,
        max_rows=max_rows,
        checks=(*intake.checks, *checks),
        lineage_sha256=intake.lineage_sha256,
        text=readable.text if readable else None,
    )
    write_json(folder / PROFILE, profiles.to_json())
    write_json(folder / MANIFEST, manifest.to_json())
    return manifest, profiles


def measure_again(
    folder: Path, backend: Backend, manifest: Manifest, progress: Progress, effort: Effort, tokenizer: Tokenizer | None = None
) -> Profiles:
    """The profiles of a published version on the machine we are on, with made-up inputs; nothing is written.

    `tokenizer`: that of a version which takes text, loaded for its longest.
    """
    axis = manifest.ragged.axis if manifest.ragged else None
    signature = Signature(manifest.inputs, manifest.outputs, axis, isinstance(manifest.inputs[0].shape[0], str))
    samples = made_up_samples(signature, manifest.ragged.longest if manifest.ragged else 0)
    profiles = _measure(folder, backend, samples, manifest.ragged, manifest.max_rows, progress, effort)
    if tokenizer is None or manifest.ragged is None:
        return profiles
    return profiles.with_text(measure_text(tokenizer, manifest.ragged.longest, ()))


@dataclass(frozen=True, slots=True)
class _Readable:
    """What makes a version take text."""

    text: TextInput
    check: Check
    cost: TextCost


def _prepare_text(
    folder: Path, wish: TextWish, session: Session, signature: Signature, ragged: Ragged | None
) -> _Readable:  # fmt: skip
    text = describe_text(wish, TOKENIZER, signature.inputs, ragged)
    assert ragged is not None, "describe_text has seen to that"
    try:
        check_text(text, (TOKENIZER,), signature.inputs, signature.outputs, ragged.axis)
        tokenizer = wish.library.load(folder / TOKENIZER, ragged.longest)
    except (ContractError, LoadError) as error:
        raise IntakeError(str(error)) from None
    check = check_vocabulary(session, TextReader(tokenizer, text, signature.inputs, ragged), ragged)
    return _Readable(text, check, measure_text(tokenizer, ragged.longest, wish.texts))


def prepare(signature: Signature, intake: Intake) -> tuple[Samples, Ragged | None]:
    """Inputs to check and measure with, and the ragged axis where there is one. Raises IntakeError when they do not fit the model."""
    unknown = set(intake.pads) - {spec.name for spec in signature.inputs}
    if unknown:
        raise IntakeError(f"a pad value is given for {min(unknown)!r}, which is not an input")
    if signature.ragged_axis is None:
        samples = Samples(signature, intake.singles) if intake.singles else made_up_samples(signature, 0)
        return samples, None
    shortest, longest = intake.lengths or (SHORTEST, LONGEST)
    padded = [spec.name for spec in signature.inputs if spec.axis(signature.ragged_axis) is not None]
    pads = {name: intake.pads.get(name, 0) for name in padded}
    for spec in signature.inputs:
        if not spec.datatype.holds(pads.get(spec.name, 0)):
            raise IntakeError(
                f"{pads[spec.name]!r} cannot pad input {spec.name!r}, which is {spec.datatype.value}; give another pad"
            )
    ragged = Ragged(signature.ragged_axis, shortest, longest, pads, mixes=False)
    return Samples(signature, intake.singles) if intake.singles else made_up_samples(signature, longest), ragged


def _check(
    session: Session,
    signature: Signature,
    samples: Samples,
    ragged: Ragged | None,
    max_rows: int,
    progress: Progress,
    differs: Differs,
) -> tuple[tuple[Check, ...], Ragged | None]:
    n_steps = 2 if ragged else 1
    progress("checking rows", 0, n_steps)
    rows = check_rows(session, signature, samples, max_rows, (ragged.shortest, ragged.longest) if ragged else (0,), differs)
    if ragged is None:
        return (rows,), None
    progress("checking padding", 1, n_steps)
    padding = check_padding(session, signature, samples, ragged, differs)
    return (rows, padding), replace(ragged, mixes=padding.passed)


def _measure(
    folder: Path,
    backend: Backend,
    samples: Samples,
    ragged: Ragged | None,
    max_rows: int,
    progress: Progress,
    effort: Effort,
) -> Profiles:
    lengths = grid_lengths(ragged.shortest, ragged.longest) if ragged else (0,)
    device = this_device(backend.runtime, backend.accelerator)
    try:
        return measure_placements(
            lambda threads: _load(backend, folder, threads),
            device,
            samples,
            grid_rows(max_rows),
            lengths,
            progress,
            effort,
            _taken_of(backend) if isinstance(backend, OnCard) else None,
        )
    except BatchError as error:
        raise IntakeError(f"the model fails while it is timed, at a size that no check tried: {error}") from None


def _taken_of(backend: OnCard) -> Callable[[], int]:
    """Of the card's memory, by all who use it."""

    def taken() -> int:
        memory = backend.card_memory()
        return memory.total_bytes - memory.free_bytes

    return taken


def _load(backend: Backend, folder: Path, threads: int) -> Session:
    try:
        return backend.load(folder, threads)
    except LoadError as error:
        raise IntakeError(f"{backend.model_file} cannot be loaded by {backend.runtime}: {error}") from None
