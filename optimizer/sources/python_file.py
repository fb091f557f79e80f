"""The interface between a user's Python file and the optimizer.

The file defines `build() -> torch.nn.Module` (trained, in eval mode) and `samples() -> list[dict[str, ndarray]]` (single
requests: the argument names of `forward` → arrays [1, …]), optionally `score(predict) -> float`, optionally `tokenizer()` and
`texts()`, and optionally settings in capitals. docs/optimizer.md explains them. What torch does is in `opened`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from optimizer.errors import SourceError
from optimizer.sources.scan import scan_file
from optimizer.sources.settings import Settings, check_known, read_settings

_EXAMPLE = {
    "build": "def build() -> torch.nn.Module: …",
    "samples": "def samples() -> list[dict[str, np.ndarray]]: …",
    "texts": "def texts() -> list[str]: …  # the texts that samples() are the tokens of, in their order",
}
_MODULE = "_ferry_model_file"


class PythonFile:
    """A user's file, scanned at once and executed at the first need; `close` forgets the modules it imported.

    Raises SourceError from the constructor for what can be seen without running the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path.resolve().parent
        self._scan = scan_file(path.resolve())
        check_known(self._scan.settings, str(path))
        self.name = self._scan.name or self._folder.name
        self.digest = self._scan.digest(self._folder)
        self.packages = self._scan.packages
        self._module: ModuleType | None = None
        self._modules_before: frozenset[str] = frozenset()

    def settings(self) -> Settings:
        """The file's settings. Raises SourceError."""
        return read_settings(vars(self._executed()), str(self.path))

    def has(self, name: str) -> bool:
        """Whether the file defines `name`."""
        return hasattr(self._executed(), name)

    def call(self, name: str, *arguments: object) -> Any:
        """Call a function of the file. Raises SourceError when it is missing or raises, with the line that did."""
        function = getattr(self._executed(), name, None)
        if function is None:
            raise SourceError(f"{self.path}: {name}() is missing; define: {_EXAMPLE.get(name, name)}")
        if not callable(function):
            raise SourceError(f"{self.path}: {name} is {_kind(function)}, not a function; define: {_EXAMPLE.get(name, name)}")
        with self.blamed(f"{name}()"):
            return function(*arguments)

    @contextmanager
    def blamed(self, what: str) -> Iterator[None]:
        """Turn whatever the user's code raises into a SourceError that says where in the file it came from."""
        try:
            yield
        except SourceError:
            raise
        except Exception as error:  # the user's code may raise anything; all of it is reported
            reason = " ".join(str(error).split()) or "no message"
            raise SourceError(f"{self.path}: {what} raised {type(error).__name__}{self._line(error)}: {reason}") from error

    def close(self) -> None:
        """Forget the file and the modules it imported from its folder, so that a later run sees them as they are then."""
        if self._module is None:
            return
        self._module = None
        sys.path.remove(str(self._folder))
        for name in set(sys.modules) - self._modules_before:
            origin = getattr(sys.modules[name], "__file__", None)
            if name == _MODULE or (origin and Path(origin).is_relative_to(self._folder)):
                del sys.modules[name]

    def _executed(self) -> ModuleType:
        if self._module is None:
            self._modules_before = frozenset(sys.modules) - {_MODULE}
            self._module = ModuleType(_MODULE)
            self._module.__file__ = str(self._folder / self.path.name)
            sys.modules[_MODULE] = self._module
            sys.path.insert(0, str(self._folder))
            with self.blamed("importing it"):
                exec(compile(self._scan.text, str(self.path), "exec"), vars(self._module))
        return self._module

    def _line(self, error: BaseException) -> str:
        """The innermost line of the user's file in the traceback, in words."""
        trace, line = error.__traceback__, None
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(self.path):
                line = trace.tb_lineno
            trace = trace.tb_next
        return f" at line {line}" if line else ""


def _kind(value: object) -> str:
    return "nothing" if value is None else f"of type {type(value).__name__}"
