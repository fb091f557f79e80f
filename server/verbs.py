"""What a verb of the `ferry` command is. Other packages add theirs by the entry point group "ferry.verbs"."""

from __future__ import annotations

import argparse
from typing import Protocol

GROUP = "ferry.verbs"


class Verb(Protocol):
    """One sub-command."""

    help: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the exit status."""
