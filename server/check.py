"""The verb `check`: read and verify a repository as the server would, without loading a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from server.contract.durations import format_duration
from server.contract.errors import ContractError
from server.contract.layout import VersionFiles, check_repository, model_names, read_version, versions
from server.contract.wants import FILE, read_wants


class CheckVerb:
    """`ferry check`."""

    help = "verify every file of a model repository against its manifest"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("repository", nargs="?", type=Path, default=Path("model_repository"), metavar="FOLDER")

    def run(self, args: argparse.Namespace) -> int:
        try:
            check_repository(args.repository)
        except ContractError as error:
            print(error)
            return 2
        problems = 0
        for name in model_names(args.repository):
            for line, is_problem in _check_model(args.repository / name):
                print(line)
                problems += is_problem
        print(f"{problems} problems" if problems else "everything is in order")
        return 1 if problems else 0


def _missing_profile(files: VersionFiles) -> str:
    """What will be done about it; nothing when it is there."""
    if files.manifest.generation is not None:
        return "" if files.steps else "; no steps.json: its steps are measured before it serves"
    return "" if files.profiles else "; no profile: it is learnt while it serves"


def _check_model(folder: Path) -> list[tuple[str, bool]]:
    lines: list[tuple[str, bool]] = []
    try:
        lines.append((f"{folder.name}: SLO {format_duration(read_wants(folder / FILE).slo_s)}", False))
    except ContractError as error:
        lines.append((f"PROBLEM {error}", True))
    for version in versions(folder):
        try:
            files = read_version(folder, version)
            checks = ", ".join(f"{check.name} {'passed' if check.passed else 'FAILED'}" for check in files.manifest.checks)
            profile = _missing_profile(files)
            lines.append((f"{folder.name}/{version}: {len(files.manifest.files)} files verified; {checks}{profile}", False))
        except ContractError as error:
            lines.append((f"PROBLEM {error}", True))
    return lines
