"""The verb `diff`: reads two versions, compares them, prints what differs. What counts as a difference is in diff."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.errors import OptimizeError
from server.contract.errors import ContractError

if TYPE_CHECKING:
    from optimizer.inspection.diff import Part, Side
    from optimizer.inspection.versions import Place

SAME, DIFFERENT, WRONG = 0, 1, 2
"""Exit statuses; the last one when the two cannot be compared."""

_MADE_UP = Path()


class DiffVerb:
    """`ferry diff`."""

    help = "say what differs between two versions, as they lie on disk and in their answers"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        for name in ("first", "second"):
            parser.add_argument(name, metavar=name.upper(), help="MODEL/VERSION, MODEL (its newest) or a folder")
        parser.add_argument(
            "--repository", type=Path, default=Path("model_repository"), metavar="FOLDER", help="(default: %(default)s)"
        )
        parser.add_argument(
            "--samples", type=Path, nargs="?", const=_MADE_UP, metavar="FILE.npz",
            help="ask both and compare their answers; the requests are made up, or those of a file: input name → array [n, …]",
        )  # fmt: skip
        parser.add_argument("--json", action="store_true", help="print all that was compared, as JSON")

    def run(self, args: argparse.Namespace) -> int:
        """0: the same; 1: different; 2: something to correct."""
        try:
            return _run(args)
        except (OptimizeError, ContractError) as error:
            print(f"ferry diff: {error}", file=sys.stderr)
            return WRONG


def _run(args: argparse.Namespace) -> int:
    from optimizer.inspection.diff import compare_versions, same
    from optimizer.inspection.versions import find_version

    sides = [_side(find_version(text, args.repository)) for text in (args.first, args.second)]
    parts = compare_versions(*sides)
    if args.samples is not None:
        parts.append(_answers(sides[0], sides[1], args.samples))
    alike = same(parts)
    if args.json:
        found = {"first": sides[0].label, "second": sides[1].label, "same": alike, "parts": [part.to_json() for part in parts]}
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(_lines(sides, parts)))
    return SAME if alike else DIFFERENT


def _side(place: Place) -> Side:
    from optimizer.inspection.diff import Side
    from optimizer.inspection.graph import can_read, read_graph
    from optimizer.lineage import read_lineage

    files = place.read()
    models = [files.folder / entry.path for entry in files.manifest.files if entry.path.endswith(".onnx")]
    operators = read_graph(models[0]).operators if models and can_read() else None
    return Side(place.label, files, place.wants(), operators, read_lineage(files.folder))


def _answers(a: Side, b: Side, samples: Path) -> Part:
    from optimizer.inspection.ask import compare
    from optimizer.inspection.diff import Part, Standing
    from optimizer.inspection.versions import made_up_requests, read_requests
    from server.backends.catalog import find_backends

    manifest = a.files.manifest
    if {spec.name: spec for spec in manifest.inputs} != {spec.name: spec for spec in b.files.manifest.inputs}:
        return Part("answers", Standing.UNKNOWN, ("the two do not take the same inputs",))
    requests = made_up_requests(manifest) if samples == _MADE_UP else read_requests(samples, manifest)
    backends = find_backends()
    picked = [backends.pick(side.files) for side in (a, b)]
    found = compare(picked[0], picked[1], requests)
    lines = [found.agreement.sentence(), f"largest difference {found.excess:.3g} times the tolerance"]
    lines += [
        f"{side.label}: served by its fallback: {one.instead}" for side, one in zip((a, b), picked, strict=True) if one.instead
    ]
    if samples == _MADE_UP:
        lines.append("made-up requests: give --samples FILE.npz with real ones for figures that mean something")
    standing = Standing.SAME if found.excess <= 1 else Standing.DIFFERS
    data = {"agreement": found.agreement.to_json(), "excess": min(found.excess, sys.float_info.max)}
    return Part("answers", standing, tuple(lines), data)


def _lines(sides: list[Side], parts: list[Part]) -> list[str]:
    lines = [f"first   {sides[0].label}", f"second  {sides[1].label}"]
    for part in parts:
        lines.append(f"{part.name}: {part.standing.value}")
        lines += [f"  {line}" for line in part.lines]
    return lines
