"""How the bench talks with a generator's program: a setup in a file, then "go" by line on stdin and an outcome as JSON by line on stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

READY = "ready"
GO = "go"


@dataclass(frozen=True, slots=True)
class Setup:
    """What to load and what to do: a checkpoint folder or what was made of it, prompts, the tokens of each answer, slots, threads."""

    checkpoint: str
    prompts: list[list[int]]
    new_tokens: list[int]
    slots: int
    threads: int

    @property
    def longest(self) -> int:
        """Room that the longest prompt and answer need."""
        return max(map(len, self.prompts)) + max(self.new_tokens)


Answers = list[list[int]]
"""New token ids of each prompt, in order."""


def serve(load: Callable[[Setup], Callable[[], Answers]]) -> None:
    """Load what `sys.argv[1]` says, then run once for each line of stdin and tell the answers and the seconds.

    The protocol has stdout's descriptor for itself: what libraries print goes to stderr.
    """
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    setup = Setup(**json.loads(Path(sys.argv[1]).read_text()))
    run = load(setup)
    run()  # first runs allocate and plan
    print(READY, file=told, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        answers = run()
        took_s = time.perf_counter() - began
        lengths = [len(answer) for answer in answers]
        assert lengths == setup.new_tokens, f"answers of {lengths} tokens, {setup.new_tokens} were asked for"
        print(json.dumps({"seconds": took_s, "answers": answers}), file=told, flush=True)


def written(setup: Setup, path: Path) -> Path:
    """The setup as a file for the program."""
    path.write_text(json.dumps(asdict(setup)))
    return path
