"""A process that kills itself, as `kill -9` would, at its n-th change of the disk; and the changes it recorded if it lived.

Started by tests with: python -m tests.server.contract.doomed KILL_AT WHAT REPOSITORY [MODEL …]. Its output is one change a line.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.contract.publish import publish, replace_wants, staging
from server.contract.wants import Wants
from tests.server.contract.examples import write_version

OLD_WANTS = Wants(0.05)
NEW_WANTS = Wants(0.02, max_rows=4)


class Doom:
    """Counts the calls that change the disk. Dies before the fatal one, in the middle of it where it writes a file."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at
        self.calls: list[str] = []

    def install(self) -> None:
        for name in ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "link"):
            setattr(os, name, self._counted(name, getattr(os, name)))
        shutil.rmtree = self._counted("rmtree", shutil.rmtree)  # type: ignore[assignment]
        Path.write_text = self._torn(Path.write_text)  # type: ignore[method-assign]
        Path.write_bytes = self._torn(Path.write_bytes)  # type: ignore[method-assign]

    def count(self, line: str) -> bool:
        """True when this is the last act."""
        self.calls.append(line)
        return len(self.calls) == self.kill_at

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if name == "fsync":
                names = [os.path.basename(os.readlink(f"/proc/self/fd/{args[0]}"))]
            else:
                names = [os.path.basename(arg) for arg in args if isinstance(arg, (str, os.PathLike))]
            if self.count(" ".join([name, *names])):
                self.die()
            return function(*args, **options)

        return call

    def _torn(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def write(path: Path, content: Any, **options: Any) -> Any:
            if self.count(f"write {path.name}"):
                function(path, content[: len(content) // 2], **options)
                self.die()
            return function(path, content, **options)

        return write


def publish_one(repository: Path, model: str, wants: Wants | None) -> int:
    """Stage and publish one version."""
    with staging(repository) as folder:
        write_version(folder / "version", model)
        return publish(folder / "version", repository, model, wants)


def main(kill_at: int, what: str, repository: Path, model: str) -> None:
    doom = Doom(kill_at)
    doom.install()
    match what:
        case "with wants":
            publish_one(repository, model, NEW_WANTS)
        case "without wants":
            publish_one(repository, model, None)
        case "wants only":
            replace_wants(repository, model, NEW_WANTS)
    print("\n".join(doom.calls))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4])
