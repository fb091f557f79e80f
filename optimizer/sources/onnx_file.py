"""A finished .onnx file as the source of a model. Nothing here parses it: the runtime that will serve it does."""

from __future__ import annotations

from pathlib import Path

from optimizer.errors import SourceError
from server.contract.layout import describe_file


class OnnxFile:
    """The file, its digest, and the model's default name: that of the file, or of its folder when it is `model.onnx`.

    Raises SourceError when the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.digest = describe_file(path).sha256
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
        self.name = path.stem if path.stem != "model" else path.resolve().parent.name

    def close(self) -> None:
        """Nothing is held."""
