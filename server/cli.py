"""The `ferry` command: its own verbs and those that other packages plug in."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import EntryPoint, entry_points

from server import __version__
from server.imports import importing
from server.verbs import GROUP, Verb


def main(argv: list[str] | None = None) -> int:
    """Parse, run the verb, return its exit status.

    Only the verb that is asked for is imported: `ferry serve` must start fast and needs none of the others' extras.
    """
    arguments = sys.argv[1:] if argv is None else argv
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    asked = arguments[0] if arguments else None
    parser = argparse.ArgumentParser(prog="ferry", description="Serve models within a stated latency objective.")
    parser.add_argument("--version", action="version", version=f"ferry {__version__}")
    commands = parser.add_subparsers(metavar="VERB", required=True)
    for name in [asked] if asked in entries else sorted(entries):
        _add(commands, entries[name])
    args = parser.parse_args(arguments)
    verb: Verb = args.verb
    return verb.run(args)


def _add(commands: argparse._SubParsersAction[argparse.ArgumentParser], entry: EntryPoint) -> None:
    with importing():
        verb: Verb = entry.load()()
    parser = commands.add_parser(entry.name, help=verb.help, description=verb.help)
    verb.configure(parser)
    parser.set_defaults(verb=verb)


if __name__ == "__main__":
    sys.exit(main())
