"""The verb `profile`: has a version's operators and the steps of a request timed; prints where time goes."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.errors import OptimizeError
from server.contract.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimizer.inspection.breakdown import Step
    from optimizer.inspection.operators import OperatorTime
    from optimizer.inspection.versions import Place
    from server.backends.base import Array, Picked
    from server.contract.manifest import Manifest
    from server.intake.texts import TextReader

_LINES = 15


class ProfileVerb:
    """`ferry profile`."""

    help = "show where a version's time goes, by operator and by step of a request, and write a trace for Perfetto"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("version", metavar="VERSION", help="MODEL/VERSION, MODEL (its newest) or a folder")
        add("--repository", type=Path, default=Path("model_repository"), metavar="FOLDER", help="(default: %(default)s)")
        add("--rows", type=_count, default=1, metavar="N", help="in the batch (default: %(default)s)")
        add("--length", type=_count, metavar="N", help="of each row, where lengths differ (default: the middle one)")
        add("--threads", type=_count, metavar="N", help="(default: as it was measured to be best)")
        add("--runs", type=_count, default=30, metavar="N", help="to take figures from (default: %(default)s)")
        add("--trace", type=Path, metavar="FILE", help="default: MODEL-VERSION.trace.json")
        add("--json", action="store_true", help="print the figures as JSON")

    def run(self, args: argparse.Namespace) -> int:
        """2, with one line that says what to change, for what cannot be profiled."""
        try:
            return _run(args)
        except (OptimizeError, ContractError) as error:
            print(f"ferry profile: {error}", file=sys.stderr)
            return 2


@dataclass(frozen=True, slots=True)
class _Job:
    """What is run: a batch [rows, …] of one length on so many threads."""

    place: Place
    picked: Picked
    batch: Mapping[str, Array]
    rows: int
    length: int
    threads: int
    n_runs: int

    def __str__(self) -> str:
        length = f" of length {self.length}" if self.length else ""
        return (
            f"{self.place.label} ({self.picked.backend.runtime}): {self.rows} row{'s' * (self.rows > 1)}{length}, "
            f"{self.threads} thread{'s' * (self.threads > 1)}, made-up values"
        )


def _run(args: argparse.Namespace) -> int:
    from optimizer.inspection.operators import time_by_operator, write_trace
    from optimizer.inspection.tracing import trace

    job = _prepare(args)
    traced = trace(job.picked, job.batch, job.threads, job.n_runs)
    operators = time_by_operator(traced.events, traced.n_runs)
    steps = _steps(job)
    file = args.trace or Path(f"{job.place.label.strip('/').replace('/', '-')}.trace.json")
    write_trace(file, traced.events)
    if args.json:
        figures = {"operators": [one.to_json() for one in operators], "steps": [one.to_json() for one in steps]}
        size = {"rows": job.rows, "length": job.length, "threads": job.threads, "runtime": job.picked.backend.runtime}
        print(json.dumps({"version": job.place.label, **size, **figures, "trace": str(file)}, indent=1))
    else:
        print(
            "\n".join(
                [
                    str(job),
                    *_operator_lines(operators),
                    *_step_lines(steps),
                    f"trace: {file}, for ui.perfetto.dev or chrome://tracing",
                ]
            )
        )
    return 0


def _prepare(args: argparse.Namespace) -> _Job:
    from optimizer.inspection.versions import find_version, manifest_signature
    from server.backends.catalog import find_backends
    from server.intake.samples import made_up_samples

    place = find_version(args.version, args.repository)
    picked = find_backends().pick(place.read())
    manifest = picked.files.manifest
    if args.rows > manifest.max_rows:
        raise OptimizeError(f"{place.label} takes batches of up to {manifest.max_rows} rows, not of {args.rows}")
    length = _length(args.length, manifest, place.label)
    batch = made_up_samples(manifest_signature(manifest), length).batch(args.rows, length)
    return _Job(place, picked, batch, args.rows, length, args.threads or _threads(place, picked), args.runs)


def _length(asked: int | None, manifest: Manifest, label: str) -> int:
    ragged = manifest.ragged
    if ragged is None:
        if asked is not None:
            raise OptimizeError(f"all rows of {label} have one size; leave --length out")
        return 0
    if asked is None:
        return (ragged.shortest + ragged.longest) // 2
    if not ragged.shortest <= asked <= ragged.longest:
        raise OptimizeError(f"{label} takes lengths of {ragged.shortest} to {ragged.longest}, not {asked}")
    return asked


def _threads(place: Place, picked: Picked) -> int:
    """As a server would choose; one where nothing was measured."""
    profiles, wants = picked.files.profiles, place.wants()
    if profiles is None:
        return 1
    if wants is None:
        return profiles.profiles[0].placement.threads
    return profiles.choose(wants, picked.files.manifest.max_rows, profiles.device.cores).placement.threads


def _steps(job: _Job) -> list[Step]:
    from optimizer.inspection.breakdown import time_steps
    from server.backends.base import LoadError

    try:
        with closing(job.picked.backend.load(job.picked.files.folder, job.threads)) as session:
            return time_steps(session, job.picked.files.manifest, job.batch, job.n_runs, _reader(job), job.length)
    except LoadError as error:
        raise OptimizeError(f"{job.place.label} cannot be loaded: {error}") from None


def _reader(job: _Job) -> TextReader | None:
    """Of a version that takes text. Raises LoadError."""
    from server.backends.hf_tokenizers import HfTokenizers
    from server.intake.texts import TextReader

    manifest = job.picked.files.manifest
    if manifest.text is None or manifest.ragged is None:
        return None
    tokenizer = HfTokenizers().load(job.picked.files.folder / manifest.text.tokenizer, manifest.ragged.longest)
    return TextReader(tokenizer, manifest.text, manifest.inputs, manifest.ragged)


def _operator_lines(operators: Sequence[OperatorTime]) -> list[str]:
    lines = [f"{'operator':<32}{'calls':>8}{'ms':>10}{'share':>8}  by"]
    lines += [
        f"{one.operator:<32}{one.n_calls:>8.4g}{one.seconds * 1e3:>10.4f}{one.share:>8.1%}  {one.provider}"
        for one in operators[:_LINES]
    ]
    rest = operators[_LINES:]
    if rest:
        seconds, share = sum(one.seconds for one in rest), sum(one.share for one in rest)
        lines.append(f"{f'{len(rest)} others':<32}{sum(one.n_calls for one in rest):>8.4g}{seconds * 1e3:>10.4f}{share:>8.1%}")
    return [*lines, f"{'all, while traced':<40}{sum(one.seconds for one in operators) * 1e3:>10.4f}"]


def _step_lines(steps: Sequence[Step]) -> list[str]:
    total = sum(step.seconds for step in steps)
    lines = [f"{'step':<10}{'ms':>10}{'share':>8}"]
    lines += [f"{step.name:<10}{step.seconds * 1e3:>10.4f}{step.seconds / total:>8.1%}  {step.what}" for step in steps]
    return [*lines, f"{'all':<10}{total * 1e3:>10.4f}           alone, without waiting and without the network"]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)
