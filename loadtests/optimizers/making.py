"""Runs a recipe's commands in a folder of its own and keeps what comes out, until anything changes that it was made of."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.optimizers.tool import ROOT, SCRIPTS, Recipe, Steps, Tool, Work

_STAMP = "made.json"
_TIMEOUT_S = 900.0
_TAIL = 400


@dataclass(frozen=True, slots=True)
class Made:
    """What a recipe made of a model: the `file`, or the `reason` why there is none. `seconds`: how long it took when it ran."""

    tool: str
    recipe: str
    file: Path | None
    seconds: float
    reason: str | None

    @property
    def key(self) -> str:
        """How it is called in tables and results."""
        return f"{self.tool} {self.recipe}"


def make(tool: Tool, recipe: Recipe, work: Work, folder: Path) -> Made:
    """What `recipe` makes of the model, in `folder`; what has been made there before of the same things is taken. What failed is tried
    again."""
    steps, stamp = recipe.steps(work), folder / _STAMP
    product, key = folder / steps.product, _key(tool, steps, work)
    if (known := _read(stamp)) is not None and known["key"] == key and product.exists():
        return Made(tool.name, recipe.name, product, float(known["seconds"]), None)
    print(f"{work.model}: {tool.label}, {recipe.name} …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in steps.files.items():
        (folder / name).write_text(json.dumps(content))
    began_at = time.perf_counter()
    reason = _run(steps.commands, folder, tool.environment)
    seconds = time.perf_counter() - began_at
    if reason is None and not product.exists():
        reason = f"no {steps.product} came out"
    if reason is not None:
        return Made(tool.name, recipe.name, None, seconds, reason)
    stamp.write_text(json.dumps({"key": key, "seconds": seconds}))
    return Made(tool.name, recipe.name, product, seconds, None)


def made_values(made: Made) -> dict[str, Any]:
    """For JSON; without the place where it lies."""
    return {name: value for name, value in asdict(made).items() if name != "file"}


def without_places(text: str) -> str:
    """Absolute paths by their last part only: results name no machine's folders."""
    return re.sub(r"(?<![\w.])/(?:[^\s/'\":,]+/)+([^\s/'\":,]+)", r"\1", text)


def _run(commands: Sequence[Sequence[str]], folder: Path, variables: Mapping[str, str]) -> str | None:
    """The reason why a command failed; None if none did."""
    (folder / "out").mkdir()
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    for command in commands:
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return f"{Path(command[0]).name} took more than {_TIMEOUT_S:g} s"
        except OSError as error:
            return f"{Path(command[0]).name} cannot be run: {error.strerror}"
        if done.returncode:
            return without_places(" ".join((done.stderr or done.stdout).split()))[-_TAIL:] or f"exit status {done.returncode}"
    return None


def _key(tool: Tool, steps: Steps, work: Work) -> str:
    """Of everything that decides what comes out, but the places where it lies."""
    words = [*(word for command in steps.commands for word in command), json.dumps(steps.files)]
    scripts = [script for script in sorted(SCRIPTS.glob("*.py")) if any(script.name in word for word in words)]
    files = [work.plain, *((work.rows,) if work.rows is not None else ()), *scripts]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    commands = [[Path(word).name if word.startswith("/") else word for word in command] for command in steps.commands]
    content = without_places(json.dumps(steps.files))
    return hashlib.sha256(json.dumps([tool.requirements, commands, content, digests]).encode()).hexdigest()


def _read(stamp: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
