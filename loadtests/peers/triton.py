"""Triton: the tritonserver binary of nvidia-pytriton, with its Python backend over onnxruntime."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from loadtests.child import HOST
from loadtests.peers.peer import ROOT, Knob, Launch, Model, Peer, Tuning, Visit, environment, v2, v2_binary
from loadtests.tensors import datatype_of


def _launch(visit: Visit) -> Launch:
    """Lay out a model repository and a backend folder: the package keeps the stubs of each Python apart from the backend."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"  # the environment is made with this interpreter
    site = visit.python.parents[1] / "lib" / f"python{version}" / "site-packages"
    triton = site / "pytriton" / "tritonserver"
    backend = visit.folder / "backends" / "python"
    shutil.copytree(triton / "backends" / "python", backend)
    shutil.copy(triton / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    _write_model(visit, visit.folder / "models" / visit.model.name)
    flags: dict[str, object] = {
        "model-repository": visit.folder / "models",
        "backend-directory": visit.folder / "backends",
        "http-address": HOST,
        "http-port": visit.port,
        "http-thread-count": 2,
        "log-info": "false",
        "allow-grpc": "false",
        "allow-metrics": "false",
        "exit-timeout-secs": 2,
        "backend-config": f"python,shm-region-prefix-name={visit.folder.name}",
    }
    command = [str(triton / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in flags.items())]
    libraries = f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    variables = environment(visit, LD_LIBRARY_PATH=libraries, PATH=f"{visit.python.parent}:{os.defpath}")
    return Launch(command, "/v2/health/ready", variables, shared_memory=visit.folder.name)


def _write_model(visit: Visit, folder: Path) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "servers" / "triton_model.py", folder / "1" / "model.py")
    (folder / "1" / "loadtests").symlink_to(ROOT / "loadtests")  # the stub has this folder on its path, and no PYTHONPATH
    (folder / "config.pbtxt").write_text(config(visit.model, visit.tuning))


def config(model: Model, tuning: Tuning) -> str:
    """The model's configuration in Triton's own form. Axes beyond the batch that differ between rows are free, and requests that differ there may
    come in one batch (`allow_ragged_batch`): the Python backend gets each by itself, and pads."""
    row, answer = model.rows[0], model.expected[0]
    free = {name for name in row if len({one[name].shape for one in model.rows}) > 1}
    inputs = [
        _tensor(name, datatype_of(one), [-1], ", allow_ragged_batch: true")
        if name in free
        else _tensor(name, datatype_of(one), one.shape[1:])
        for name, one in row.items()
    ]
    outputs = [_tensor(name, datatype_of(one), one.shape[1:]) for name, one in answer.items()]
    lines = [
        f'name: "{model.name}"',
        'backend: "python"',
        f"max_batch_size: {tuning.max_batch * model.n_rows}",
        f"input [{', '.join(inputs)}]",
        f"output [{', '.join(outputs)}]",
        f"instance_group [{{ count: {tuning.workers}, kind: KIND_CPU }}]",
    ]
    if tuning.max_batch > 1 or tuning.queue or tuning.timeout_ms:
        delay = f"max_queue_delay_microseconds: {tuning.wait_ms * 1e3:.0f}"
        lines.append(f"dynamic_batching {{ {delay}{_queue_policy(tuning)} }}")
    return "\n".join(lines) + "\n"


def _queue_policy(tuning: Tuning) -> str:
    """What is done with requests that wait too long, or that find too many before them; nothing said is no bound."""
    policy = [f"default_timeout_microseconds: {tuning.timeout_ms * 1e3:.0f}"] if tuning.timeout_ms else []
    policy += [f"max_queue_size: {tuning.queue}"] if tuning.queue else []
    return f", default_queue_policy {{ timeout_action: REJECT, {', '.join(policy)} }}" if policy else ""


def _tensor(name: str, datatype: str, shape: tuple[int, ...] | list[int], more: str = "") -> str:
    return f'{{ name: "{name}", data_type: TYPE_{datatype}, dims: [{", ".join(map(str, shape))}]{more} }}'


TRITON = Peer(
    name="triton",
    label="Triton (Python backend)",
    package="nvidia-pytriton",
    requirements=("nvidia-pytriton==0.7.0", "onnxruntime==1.31.1"),
    candidates={
        "digits": (Tuning(64, workers=1), Tuning(64, workers=2), Tuning(workers=2)),
        "resnet18": (Tuning(8, workers=2), Tuning(8, workers=1, threads=2), Tuning(workers=2)),
        "minilm": (Tuning(workers=2), Tuning(4, 1, workers=2), Tuning(8, 1, workers=1, threads=2)),
    },
    settings="tritonserver itself, Python backend with onnxruntime, 2 HTTP threads, no gRPC, no metrics; dynamic batching where it is on",
    launch=_launch,
    wire=v2,
    binary=v2_binary,
    knobs=(Knob.TIMEOUT, Knob.QUEUE, Knob.BATCH, Knob.WAIT, Knob.WORKERS),
)
