"""A model file of another tool into a ferry repository, as any user would bring it: packed, uploaded, checked and profiled by the server.

What calculates coarsely (int8) says so by its check `answers`, so that the server compares its rows by cosine and not to the last digits.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
import orjson

from loadtests.call import call
from loadtests.child import HOST, Child
from loadtests.errors import LoadTestError, MissingData
from loadtests.limit import model_file
from loadtests.published import manifest
from loadtests.side_by_side import serving
from loadtests.wire import error_text, upload_request

ONNXRUNTIME = "onnxruntime"
_DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(int32)": "INT32", "tensor(float16)": "FP16"}
_TIMEOUT_S = 1800.0
"""To check and profile one file: a slow one on a busy machine takes long, and that is no reason to serve it on narrower terms."""


class Refused(LoadTestError):
    """The server did not take the upload; the text is its reason."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A version that the server took. `max_rows`: its largest batch; `mixes`: whether lengths may share one (None: it has no lengths);
    `refused`: why the server did not take it on wider terms."""

    file: Path
    max_rows: int
    mixes: bool | None
    refused: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Wish:
    """Terms to ask for."""

    max_rows: int
    mixes: bool | None


def take_in(
    file: Path, plain: Path, quality: str, passed: bool, slo_s: float, repository: Path, server: str, backend: str = ONNXRUNTIME
) -> Taken:
    """Publish `file` in `repository` on the widest terms that a server of the command `server` takes it: those of the version `plain`
    (its folder), else lengths apart, else rows apart. A version of the same file that is there already is taken as it is.

    `quality` and `passed`: what its check says of its answers; `backend`: the library that serves it, one for each `repository`. Raises
    Refused with every reason.
    """
    told = manifest(plain)
    if (known := _known(repository, told["name"], file)) is not None:
        return known
    refused: list[str] = []
    repository.mkdir(parents=True, exist_ok=True)
    print(f"{told['name']}: ferry checks and profiles {repository.name} …", flush=True)
    with serving(f"{server} --registration-timeout-s {_TIMEOUT_S:g}", repository) as child:
        for wish in _wishes(told):
            try:
                _upload(child, told["name"], packed(file, told, wish.max_rows, wish.mixes, quality, passed, backend), slo_s)
            except Refused as error:
                refused.append(str(error))
                continue
            _refusals(repository, told["name"]).write_bytes(orjson.dumps(refused))
            return Taken(model_file(repository, told["name"]), wish.max_rows, wish.mixes, refused)
    raise Refused("; ".join(refused))


def packed(
    file: Path,
    like: Mapping[str, Any],
    max_rows: int,
    mixes: bool | None,
    quality: str,
    passed: bool,
    backend: str = ONNXRUNTIME,
) -> bytes:
    """A .zip of a version folder: the file, and a manifest with the bounds of the manifest `like`. No profile: the server takes it.

    Raises MissingData for a file that onnxruntime does not load.
    """
    content = file.read_bytes()
    try:
        session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no other base
        raise MissingData(f"onnxruntime cannot load {file.name}: {error}") from error
    inputs, outputs = ([_spec(one) for one in some] for some in (session.get_inputs(), session.get_outputs()))
    axes = {size for one in inputs for size in one["shape"][1:] if isinstance(size, str)}
    ragged = None
    if like["ragged"] is not None and axes:
        ragged = {**like["ragged"], "axis": min(axes), "mixes": bool(mixes)}
    described = {
        "schema": 1,
        "name": like["name"],
        "backend": backend,
        "files": [{"path": "model.onnx", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}],
        "inputs": inputs,
        "outputs": outputs,
        "ragged": ragged,
        "max_rows": max_rows,
        "checks": [{"name": "answers", "passed": passed, "detail": quality}],
        "lineage_sha256": None,
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as whole:
        whole.writestr("manifest.json", orjson.dumps(described))
        whole.writestr("model.onnx", content)
    return archive.getvalue()


def _spec(one: Any) -> dict[str, Any]:
    """The first axis is the batch's, whatever the tool called it."""
    if one.type not in _DATATYPES:
        raise MissingData(f"{one.name} is a {one.type}: this benchmark knows {', '.join(_DATATYPES)}")
    first = "batch" if isinstance(one.shape[0], str) else one.shape[0]
    return {"name": one.name, "datatype": _DATATYPES[one.type], "shape": [first, *one.shape[1:]]}


def _wishes(told: Mapping[str, Any]) -> list[_Wish]:
    if told["ragged"] is None:
        return [_Wish(told["max_rows"], None), _Wish(1, None)]
    wide = [_Wish(told["max_rows"], True)] if told["ragged"]["mixes"] else []
    return [*wide, _Wish(told["max_rows"], False), _Wish(1, False)]


def _upload(server: Child, name: str, body: bytes, slo_s: float) -> None:
    request = upload_request(HOST, f"/admin/models/{name}/versions?slo={slo_s * 1e3:g}ms", body)
    reply = call(HOST, server.port, request, timeout_s=_TIMEOUT_S + 60)
    if reply.status != 201:
        raise Refused(error_text(reply.body))


def _known(repository: Path, name: str, file: Path) -> Taken | None:
    """The newest version there, if it holds this very file."""
    try:
        newest = model_file(repository, name)
    except MissingData:
        return None
    told = manifest(newest.parent)
    if told["files"][0]["sha256"] != hashlib.sha256(file.read_bytes()).hexdigest():
        return None
    refusals = _refusals(repository, name)
    refused = orjson.loads(refusals.read_bytes()) if refusals.exists() else []
    return Taken(newest, told["max_rows"], told["ragged"] and told["ragged"]["mixes"], refused)


def _refusals(repository: Path, name: str) -> Path:
    """Beside the repository: why the newest version of the model there has no wider terms."""
    return repository.with_name(f"{repository.name}-{name}.json")
