"""What was measured of a published version, as the planning calculator wants it."""

from __future__ import annotations

from optimizer.errors import OptimizeError
from optimizer.estimate import Measured, Runtime
from optimizer.inspection.graph import read_graph
from optimizer.inspection.versions import Place, marks


def measured_of(place: Place) -> Measured:
    """One row of the middle length, at the placement with the highest rate. Raises OptimizeError where nothing was measured, or the
    parameters cannot be counted."""
    files = place.read()
    if files.profiles is None:
        raise OptimizeError(f"{place.label} has no profile; give --parameters for an estimate by assumptions alone")
    models = [entry for entry in files.manifest.files if entry.path.endswith(".onnx")]
    if not models:
        raise OptimizeError(f"{place.label} has no .onnx file whose parameters could be counted; give --parameters instead")
    lengths = marks(files.manifest)
    length = lengths[len(lengths) // 2]
    profile = files.profiles.profiles[0]
    n_parameters = read_graph(files.folder / models[0].path).n_parameters
    if n_parameters < 1:
        raise OptimizeError(f"{place.label} has no weights to change")
    return Measured(
        label=place.label,
        size=f" of length {length}" if length else "",
        n_parameters=n_parameters,
        file_bytes=models[0].bytes,
        grown_bytes=max(cell.memory_bytes for cell in profile.cells),
        p50_s=profile.predict(1, length),
        runtime=_runtime(place.label, files.manifest.backend),
    )


def _runtime(label: str, backend: str) -> Runtime:
    known = {runtime.value: runtime for runtime in Runtime}
    if backend not in known:
        raise OptimizeError(f"{label} is served by {backend}, of whose speed nothing is known; known are {', '.join(known)}")
    return known[backend]
