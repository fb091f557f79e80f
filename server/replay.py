"""The verb `replay`: do the scheduler's decisions in a recording come out the same with this code?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from server.recording import file
from server.recording.file import BadRecording
from server.recording.replay import first_difference, lines
from server.recording.telling import difference_lines


class ReplayVerb:
    """`ferry replay`."""

    help = "feed a flight recording into this ferry's scheduler and compare every decision"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "file", type=Path, metavar="FILE", help="a recording: GET /admin/recording, or one that the server wrote"
        )

    def run(self, args: argparse.Namespace) -> int:
        """0: all decisions are equal, 1: they are not, 2: the file cannot be replayed."""
        try:
            recording = file.read(args.file.read_bytes())
            difference = first_difference(recording)
        except OSError as error:
            print(f"ferry: {args.file}: {error.strerror}", file=sys.stderr)
            return 2
        except BadRecording as error:
            print(f"ferry: {args.file}: {error}", file=sys.stderr)
            return 2
        if difference is None:
            print(f"{recording.n_events} events, all decisions equal")
            return 0
        for text in difference_lines(difference, next(lines(recording)).at):
            print(text)
        return 1
