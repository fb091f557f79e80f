"""Versions as people name them on the command line, and requests to ask them with. Nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optimizer.errors import OptimizeError
from server.backends.base import NUMPY_TYPES, Array
from server.contract.layout import MANIFEST, VersionFiles, read_folder, read_version, versions
from server.contract.manifest import Manifest
from server.contract.wants import FILE as WANTS_FILE
from server.contract.wants import Wants, read_wants
from server.intake.inspect import BATCH, Signature
from server.intake.samples import made_up_samples

N_MADE_UP = 8
"""Requests of each length, where none are given."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a version lies. `version` 0: a folder that is not in a model's."""

    folder: Path
    label: str
    version: int

    def read(self) -> VersionFiles:
        """Read and verified. Raises ContractError naming the file that is wrong."""
        if self.version:
            return read_version(self.folder.parent, self.version)
        return read_folder(self.folder, self.label, 0)

    def wants(self) -> Wants | None:
        """What the model's model.toml says; None where there is none. Raises ContractError for a wrong one."""
        path = self.folder.parent / WANTS_FILE
        return read_wants(path) if path.exists() else None


def find_version(text: str, repository: Path) -> Place:
    """MODEL (its newest version) or MODEL/VERSION of the repository, else a folder of a version, or of a model.

    Raises OptimizeError when there is no such thing.
    """
    model, _, number = text.partition("/")
    if model and (repository / model).is_dir() and (not number or number.isdecimal()):
        return _of_model(repository / model, number, text)
    folder = Path(text)
    if (folder / MANIFEST).is_file():
        return _of_folder(folder, text)
    if folder.is_dir() and versions(folder):
        return _of_model(folder, "", text)
    raise OptimizeError(
        f"{text}: neither a model of {repository}, nor a folder with a {MANIFEST}; give MODEL, MODEL/VERSION or a folder"
    )


def manifest_signature(manifest: Manifest) -> Signature:
    """The tensors as intake wants them."""
    axis = manifest.ragged.axis if manifest.ragged else None
    return Signature(manifest.inputs, manifest.outputs, axis, manifest.inputs[0].shape[0] == BATCH)


def marks(manifest: Manifest) -> tuple[int, ...]:
    """The shortest, the middle and the longest length; (0,) without a ragged axis."""
    ragged = manifest.ragged
    if ragged is None:
        return (0,)
    return tuple(sorted({ragged.shortest, (ragged.shortest + ragged.longest) // 2, ragged.longest}))


def made_up_requests(manifest: Manifest) -> list[dict[str, Array]]:
    """Single requests of all three lengths, the same at each call."""
    signature, lengths = manifest_signature(manifest), marks(manifest)
    samples = made_up_samples(signature, lengths[-1], N_MADE_UP)
    return [samples.batch(1, length, first=n) for length in lengths for n in range(N_MADE_UP)]


def read_requests(path: Path, manifest: Manifest) -> list[dict[str, Array]]:
    """Single requests from an .npz file: input name → array [n, …], the same n for all.

    Raises OptimizeError naming the input that is wrong.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except (OSError, ValueError) as error:
        raise OptimizeError(f"{path}: not an .npz file that can be read: {error}") from None
    wanted = {spec.name for spec in manifest.inputs}
    if set(arrays) != wanted:
        raise OptimizeError(
            f"{path}: has arrays {sorted(arrays)}, the model's inputs are {sorted(wanted)}; give one array for each"
        )
    counts = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise OptimizeError(
            f"{path}: the arrays have {sorted(counts)} rows; give each input the same number of rows, at least one"
        )
    _check_arrays(path, arrays, manifest)
    return [{name: array[n : n + 1] for name, array in arrays.items()} for n in range(counts.pop())]


def length_of(request: Mapping[str, Array], manifest: Manifest) -> int:
    """A request's size of the ragged axis; 0 without one."""
    if manifest.ragged is None:
        return 0
    axes = ((spec.name, spec.axis(manifest.ragged.axis)) for spec in manifest.inputs)
    return next(int(request[name].shape[axis]) for name, axis in axes if axis is not None)


def _check_arrays(path: Path, arrays: Mapping[str, Array], manifest: Manifest) -> None:
    for spec in manifest.inputs:
        array, dtype = arrays[spec.name], NUMPY_TYPES[spec.datatype.value]
        fits = array.ndim == len(spec.shape) and all(
            isinstance(dim, str) or dim == size for dim, size in zip(spec.shape[1:], array.shape[1:], strict=True)
        )
        if not fits or array.dtype != dtype:
            raise OptimizeError(
                f"{path}: {spec.name!r} is {array.dtype} {list(array.shape)}, the model wants {dtype} [n, "
                f"{', '.join(str(dim) for dim in spec.wire_shape[1:])}]"
            )
    ragged = manifest.ragged
    if ragged is None:
        return
    sizes = {arrays[spec.name].shape[axis] for spec in manifest.inputs if (axis := spec.axis(ragged.axis)) is not None}
    if len(sizes) > 1 or not ragged.shortest <= min(sizes) <= ragged.longest:
        raise OptimizeError(
            f"{path}: axis {ragged.axis!r} has sizes {sorted(sizes)}; give all inputs one, of {ragged.shortest} to {ragged.longest}"
        )


def _of_model(folder: Path, number: str, text: str) -> Place:
    published = versions(folder)
    if not published:
        raise OptimizeError(f"{text}: {folder} holds no version; publish one with ferry optimize")
    if number and int(number) not in published:
        raise OptimizeError(f"{text}: no such version; {folder.name} has {', '.join(str(one) for one in published)}")
    version = int(number) if number else published[-1]
    return Place(folder / str(version), f"{folder.name}/{version}", version)


def _of_folder(folder: Path, text: str) -> Place:
    """A version inside a model's folder is known by its number; others are known by their path."""
    whole = folder.resolve()
    published = versions(whole.parent) if (whole.parent / WANTS_FILE).exists() else []
    if whole.name.isdecimal() and int(whole.name) in published:
        return Place(whole, text, int(whole.name))
    return Place(folder, text, 0)
