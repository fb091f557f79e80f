"""The verb `gate`: runs the deployment checklist on a published version and prints it. The items are in checklist."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.errors import OptimizeError

if TYPE_CHECKING:
    from optimizer.inspection.readiness import Item

PASSED, FAILED, WRONG = 0, 1, 2
"""Exit statuses; the last one when there is no such version."""


class GateVerb:
    """`ferry gate`."""

    help = "check whether a published version is ready to be deployed: exit status 1, with a list, if it is not"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("version", metavar="VERSION", help="MODEL/VERSION, MODEL (its newest) or a folder")
        parser.add_argument(
            "--repository", type=Path, default=Path("model_repository"), metavar="FOLDER", help="(default: %(default)s)"
        )
        parser.add_argument(
            "--deploy", type=Path, default=Path("deploy"), metavar="FOLDER", help="where alert rules are (default: %(default)s)"
        )
        parser.add_argument("--json", action="store_true", help="print the items as JSON")

    def run(self, args: argparse.Namespace) -> int:
        """0: ready, perhaps with warnings; 1: not ready; 2: something to correct."""
        from optimizer.inspection.checklist import checklist
        from optimizer.inspection.readiness import Mark
        from optimizer.inspection.versions import find_version
        from server.backends.catalog import find_backends

        try:
            place = find_version(args.version, args.repository)
        except OptimizeError as error:
            print(f"ferry gate: {error}", file=sys.stderr)
            return WRONG
        items = checklist(place, find_backends(), args.deploy)
        failed = [item for item in items if item.mark is Mark.FAILED]
        if args.json:
            print(
                json.dumps({"version": place.label, "ready": not failed, "items": [item.to_json() for item in items]}, indent=1)
            )
        else:
            print("\n".join(_lines(place.label, items, failed)))
        return FAILED if failed else PASSED


def _lines(label: str, items: list[Item], failed: list[Item]) -> list[str]:
    width = max(len(item.name) for item in items)
    lines = [f"{item.mark.value:<8}{item.name:<{width}}  {item.detail}" for item in items]
    verdict = f"not ready: {', '.join(item.name for item in failed)}" if failed else "ready"
    return [*lines, f"{label}: {verdict}"]
