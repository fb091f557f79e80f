"""Other people's generators as running programs (`peers/generators`): an environment for all of them, what each loads, a run at a time."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from loadtests.errors import LoadTestError
from loadtests.generation.work import Work
from loadtests.peers.generators.talk import GO, READY, Setup, written

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = "loadtests.peers.generators"
PACKAGES = (
    "transformers==5.23.0", "safetensors>=0.4", "accelerate>=1.0", "tokenizers>=0.21", "onnx>=1.18", "onnx-ir>=0.1.12",
    "onnxruntime==1.31.1", "onnxruntime-genai==0.18.0", "gguf==0.17.1",
)  # fmt: skip
LLAMA_CPP = "llama-cpp-python==0.3.36"
_LLAMA_BUILD = "-DGGML_NATIVE=ON " + " ".join(
    f"-DLLAMA_BUILD_{part}=OFF" for part in ("TOOLS", "EXAMPLES", "TESTS", "SERVER")
)  # the library alone: the rest takes many minutes
_TAIL = 600


class CannotRun(LoadTestError):
    """A program, or what it needs, could not be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Generator:
    """One of them: its name for people, its module (the whole path), and which form of the checkpoint it loads."""

    name: str
    module: str
    form: str

    @property
    def short_name(self) -> str:
        """For the command line."""
        return self.module.rpartition(".")[2]


GENERATORS = (
    Generator("transformers, static batches", f"{PROGRAMS}.transformers_static", "checkpoint"),
    Generator("transformers, continuous", f"{PROGRAMS}.transformers_continuous", "checkpoint"),
    Generator("onnxruntime-genai, static batches", f"{PROGRAMS}.genai_static", "genai"),
    Generator("onnxruntime-genai engine", f"{PROGRAMS}.genai_engine", "genai"),
    Generator("llama.cpp, continuous", f"{PROGRAMS}.llama_cpp", "gguf"),
)


def environment(folder: Path) -> Path:
    """The interpreter of an environment with all of them, made under `folder` if need be. Raises CannotRun."""
    python, stamp = folder / "bin" / "python", folder / "packages.json"
    wanted = json.dumps([*PACKAGES, LLAMA_CPP])
    if stamp.exists() and stamp.read_text() == wanted:
        return python.absolute()
    print("installing other generators; llama.cpp is compiled, which takes minutes …", flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    _run(["python3.11", "-m", "venv", "--clear", str(folder)])
    _run([*pip, "torch==2.13.0"])
    _run([*pip, *PACKAGES])
    _run([*pip, LLAMA_CPP], {"CMAKE_ARGS": _LLAMA_BUILD})
    stamp.write_text(wanted)
    return python.absolute()


def forms(python: Path, folder: Path, threads: int) -> Mapping[str, Path]:
    """The checkpoint in every form, made under `folder` if need be. Raises CannotRun."""
    made = {"checkpoint": folder / "checkpoint", "genai": folder / "genai", "gguf": folder / "model.gguf"}
    if not (made["checkpoint"] / "config.json").exists():
        _run([str(python), "-m", f"{PROGRAMS}.checkpoint", str(made["checkpoint"])])
    if not (made["genai"] / "genai_config.json").exists():
        builder = ["-m", "onnxruntime_genai.models.builder", "-p", "fp32", "-e", "cpu", "-c", str(folder / "cache")]
        _run([str(python), *builder, "-i", str(made["checkpoint"]), "-o", str(made["genai"])])
    if not made["gguf"].exists():
        _run([str(python), "-m", f"{PROGRAMS}.llama_file", str(made["checkpoint"]), str(made["gguf"])])
    _set_threads(made["genai"] / "genai_config.json", threads)
    return made


def _set_threads(file: Path, threads: int) -> None:
    config = json.loads(file.read_text())
    config["model"]["decoder"]["session_options"] |= {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    file.write_text(json.dumps(config, indent=1))


def _run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_variables(variables))
    if done.returncode:
        raise CannotRun(f"`{' '.join(command[:4])} …` failed: {(done.stderr or done.stdout).strip()[-_TAIL:]}")


def _variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **(more or {})}


class Program:
    """One generator that has loaded its model and waits to be told to run. Stopped at the end of the `with`."""

    def __init__(self, python: Path, generator: Generator, checkpoint: Path, work: Work, slots: int, threads: int) -> None:
        """Raises CannotRun, with the end of what it printed, if it does not come up."""
        setup = Setup(str(checkpoint), [list(one) for one in work.prompts], list(work.new_tokens), slots, threads)
        self.generator = generator
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        with tempfile.TemporaryDirectory() as folder:
            file = written(setup, Path(folder) / "setup.json")
            self._process = subprocess.Popen(
                [str(python), "-m", generator.module, str(file)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=_variables(),
            )  # fmt: skip
            try:
                self._expect(READY)
            except BaseException:  # whatever it was: nobody else would stop the process
                self.__exit__(None, None, None)
                raise

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()  # waits, and closes the pipes
        self._errors.close()

    def run(self) -> tuple[float, list[list[int]]]:
        """Seconds of one run over all the work, and the answers. Raises CannotRun."""
        assert self._process.stdin is not None, "it was opened with pipes"
        self._process.stdin.write(f"{GO}\n")
        self._process.stdin.flush()
        outcome = json.loads(self._line())
        return outcome["seconds"], outcome["answers"]

    def _expect(self, word: str) -> None:
        if (line := self._line().strip()) != word:
            raise CannotRun(f"{self.generator.name} said {line!r} instead of {word!r}")

    def _line(self) -> str:
        assert self._process.stdout is not None, "it was opened with pipes"
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise CannotRun(f"{self.generator.name} ended: {self._errors.read()[-_TAIL:].decode(errors='replace').strip()}")
        return line
