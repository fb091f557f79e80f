"""`python -m examples.manual`: trains the model, or takes the one that the same code made of the same text; prints its folder."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from examples.manual.corpus import Entry, entries

HERE = Path(__file__).resolve().parent
CACHE = Path(".ferry-cache") / "manual"
MINUTES = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """0, unless it is interrupted."""
    parser = argparse.ArgumentParser("python -m examples.manual", description=__doc__)
    parser.add_argument("--minutes", type=_minutes, default=MINUTES, help="to train for (default: %(default)g)")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="where models are kept (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to put it as well: a folder that is not there yet")
    args = parser.parse_args(arguments)
    if args.out is not None and args.out.exists():
        parser.error(f"--out {args.out} is there already: give a new folder, or remove it")
    folder = made(args.cache, args.minutes, Console(stderr=True))
    if args.out is not None:
        shutil.copytree(folder, args.out)
    print(args.out or folder)
    return 0


def made(cache: Path, minutes: float, console: Console) -> Path:
    """The folder of the trained model, which appears there whole."""
    text = entries()
    folder = cache / digest(text, minutes)[:16]
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".training-") as scratch:
        _train(text, Path(scratch) / "model", minutes, console)
        (Path(scratch) / "model").rename(folder)
    return folder


def digest(text: Sequence[Entry], minutes: float) -> str:
    """Sha256 of what decides the model: the text, this folder's code, and the time."""
    code = [path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.py"))]
    return hashlib.sha256(json.dumps([text, code, minutes]).encode()).hexdigest()


def _train(text: Sequence[Entry], folder: Path, minutes: float, console: Console) -> None:
    from examples.manual.training import train  # torch takes seconds to import

    n_characters = sum(len(entry.answer) for entry in text)
    console.print(f"training on {len(text)} entries of Python's manual, {n_characters / 1e6:.1f} MB, for {minutes:g} minutes")
    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def progress(share: float, step: int, loss: float) -> None:
            bar.update(task, completed=share, description=f"step {step}, loss {loss:.2f}")

        loss = train(text, folder, minutes, progress)
    console.print(f"loss {loss:.2f} nats per token")


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1440:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
