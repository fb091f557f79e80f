"""What the command lines of the benchmarks have in common: flags that tell their defaults, and how a run ends. A benchmark's own flags
are in its own file."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from loadtests.errors import LoadTestError


class Flags:
    """The flags of one benchmark, none of which must be given."""

    def __init__(self, module: str, text: str | None) -> None:
        """`module`: its full name. `text`: what it is for."""
        self._parser = argparse.ArgumentParser(f"python -m {module}", description=text, allow_abbrev=False)
        self._quick: Mapping[str, Any] = {}

    def add(self, flag: str, text: str, default: Any, kind: Callable[[str], Any] = str) -> None:
        """A flag with a value, which `kind` makes of what was typed."""
        self._parser.add_argument(flag, help=f"{text} (default: %(default)s)", default=default, type=kind)

    def switch(self, flag: str, text: str) -> None:
        """A flag without a value: True if it is given."""
        self._parser.add_argument(flag, action="store_true", help=text)

    def add_quick(self, values: Mapping[str, Any]) -> None:
        """`--quick`, which sets these options whatever else is given."""
        self._quick = values
        self.switch("--quick", "one short round, for development: its figures prove nothing")

    def read(self, arguments: Sequence[str] | None) -> dict[str, Any]:
        """All options by name (None: of this process's own command line); exits with 2 and the usage if it is wrong."""
        given = vars(self._parser.parse_args(arguments))
        return {**given, **self._quick} if given.pop("quick", False) else given


def status(name: str, run: Callable[[], object]) -> int:
    """Run a benchmark: 0, or 1 after a message on stderr that says what went wrong, or 130 if it was interrupted. A claim that misses
    is a result."""
    try:
        run()
    except LoadTestError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def as_program(main: Callable[[], int]) -> NoReturn:
    """Run it and exit. At SIGTERM, as at Ctrl-C, the servers that run are stopped first."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
