"""The models that the engine serves, as a front end knows them: all that decoding, encoding and turning away need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from server.contract.classes import Classes, ServiceClass
from server.contract.errors import ContractError
from server.contract.manifest import Manifest
from server.core.types import ModelKey
from server.errors import NotReady, NotYet
from server.fleet.packing import Packing
from server.fleet.slots import BrokenLink
from server.runtime.serving import ServingModel


class RemoteModel:
    """A model that another process serves. It does not change; it ends with the engine that told of it."""

    def __init__(self, key: ModelKey, manifest: Manifest, classes: Classes, max_rows: int, fastest_s: float) -> None:
        self.key = key
        self.manifest = manifest
        self.classes = classes
        self.slo_s = classes.of(0).slo_s
        self.max_rows = max_rows
        self.fastest_s = fastest_s
        self.inputs = Packing(manifest.inputs)
        self.outputs = Packing(manifest.outputs)
        self.input_names = [spec.name for spec in manifest.inputs]


def to_json(model: ServingModel) -> dict[str, Any]:
    """One row of the table."""
    return {
        "key": list(model.key),
        "manifest": model.manifest.to_json(),
        "classes": [(one.name, one.slo_s) for one in model.classes.all],
        "default": model.classes.default,
        "max_rows": model.max_rows,
        "fastest_s": model.fastest_s,
    }


def from_json(row: Mapping[str, Any]) -> RemoteModel:
    """Raises BrokenLink."""
    try:
        manifest = Manifest.from_json(row["manifest"], "the engine's table")
        classes = Classes(tuple(ServiceClass(*one) for one in row["classes"]), row["default"])
        return RemoteModel(ModelKey(*row["key"]), manifest, classes, row["max_rows"], row["fastest_s"])
    except (KeyError, TypeError, ContractError) as wrong:
        raise BrokenLink(f"a model that cannot be read: {wrong}") from wrong


class ModelTable:
    """What serves at the moment, by the engine's last word."""

    def __init__(self) -> None:
        self._models: dict[str, RemoteModel] = {}
        self._paths: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self._models)

    def replace(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Models that stay are the same objects as before. Raises BrokenLink."""
        known = {model.key: model for model in self._models.values()}
        models = [known.get(ModelKey(*row["key"])) or from_json(row) for row in rows]
        self._models = {model.key.name: model for model in models}
        self._paths = frozenset(path for model in models for path in _infer_paths(model.key))

    def clear(self) -> None:
        """The engine is gone, and what it served with it."""
        self._models, self._paths = {}, frozenset()

    def serves(self, path: str) -> bool:
        """Whether `path` is the infer path of a model that serves."""
        return path in self._paths

    def has(self, name: str, version: str | None) -> bool:
        """Whether `find` would find it."""
        model = self._models.get(name)
        return model is not None and (version is None or version == str(model.key.version))

    def find(self, name: str, version: str | None = None) -> RemoteModel:
        """The served version of a model. Raises NotReady."""
        model = self._models.get(name)
        if model is None:
            raise NotYet(f"model {name!r} does not serve at the moment; try again")
        if version is not None and version != str(model.key.version):
            raise NotReady(f"model {name!r} serves version {model.key.version} now, not {version!r}")
        return model


def _infer_paths(key: ModelKey) -> tuple[str, str]:
    return f"/v2/models/{key.name}/infer", f"/v2/models/{key.name}/versions/{key.version}/infer"
