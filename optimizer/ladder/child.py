"""The process in which a task of the ladder runs; isolate starts it. Ends with its parent, however that dies."""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import traceback
from pathlib import Path

from optimizer.errors import OptimizeError, StageFailed
from optimizer.ladder.isolate import ANSWER, OUT, TASK, End
from server.contract.layout import write_json


def main(folder_name: str, pipe: str) -> None:
    """Runs the task in `folder_name` and writes what became of it there; progress goes to the file descriptor `pipe`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = Path(folder_name)

    def progress(what: str, done: int, total: int) -> None:
        os.write(int(pipe), json.dumps([what, done, total]).encode() + b"\n")

    try:
        task = pickle.loads((folder / TASK).read_bytes())
        task(folder / OUT, progress).write(folder)
    except StageFailed as failure:
        _tell(folder, End.FAILED, str(failure), failure.log)
    except OptimizeError as error:
        _tell(folder, End.FAILED, str(error))
    except BaseException as error:  # a user's function may raise anything, sys.exit() too: all of it is told to the parent
        traceback.print_exc()
        _tell(folder, End.RAISED, f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}")
    else:
        _tell(folder, None, "")
    sys.stdout.flush()


def _tell(folder: Path, end: End | None, message: str, log: str = "") -> None:
    write_json(folder / ANSWER, {"end": end and end.name, "message": message, "log": log})


def _end_with_parent() -> None:
    """Standard input closes when the parent dies; nobody wants the result then."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(3)
