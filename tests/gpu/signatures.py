"""Reads the signatures of TensorRT's Python bindings out of the bindings themselves, so that types can be checked on machines without
its libraries: `python -m tests.gpu.signatures PACKAGE OUT`. The bindings are loaded beside libraries that are only names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL", "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry", "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
"""Functions that the bindings take from the libraries; all else is reached through what these return."""

LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
MODULE = "tensorrt_bindings.tensorrt"

UNTOLD = {
    "class IHostMemory:\n": "    def __buffer__(self, flags: int, /) -> memoryview: ...\n",
    "class OnnxParser:\n": "    def get_error(self, index: int) -> ParserError: ...\n",
}
"""What the documentation says and signatures do not: memory of the host is a buffer, and an error of the parser is one."""


def main(package: Path, out: Path) -> None:
    """`package`: where `pip install --target` put the bindings. Writes out/tensorrt/__init__.pyi."""
    (version,) = package.glob("tensorrt_cu*_bindings-*.dist-info")
    major = version.name.split("-")[1].split(".")[0]
    out.mkdir(parents=True, exist_ok=True)
    compile_names(out, major)
    paths = {"LD_LIBRARY_PATH": str(out.resolve()), "PYTHONPATH": str(package.resolve())}
    subprocess.run(
        [Path(sys.executable).parent / "stubgen", "--quiet", "--module", MODULE, "--output", out],
        env=os.environ | paths,
        check=True,
    )
    made = out / "tensorrt" / "__init__.pyi"
    made.parent.mkdir(exist_ok=True)
    made.write_text(mended((out / f"{MODULE.replace('.', '/')}.pyi").read_text()), encoding="utf-8")


def compile_names(folder: Path, major: str) -> None:
    """Libraries with the right names, whose functions do nothing."""
    source = folder / "names.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    for library in LIBRARIES:
        file = f"lib{library}.so.{major}"
        subprocess.run(["cc", "-shared", "-fPIC", source, "-o", folder / file, f"-Wl,-soname,{file}"], check=True)


def mended(stub: str) -> str:
    """The stub as a type checker takes it: no module variable hides `bool`, and parameters after one with a default have one, too."""
    stub = stub.replace("\nbool: DataType\n", "\n")
    for place, told in UNTOLD.items():
        stub = stub.replace(place, place + told)
    lines = [line for line in stub.splitlines() if "def get_error(self, *args" not in line]
    return "\n".join([*(mended_line(line) for line in lines), "__version__: str", ""])


def mended_line(line: str) -> str:
    """One line of a stub."""
    if "def " not in line or "= ..." not in line:
        return line
    head, _, rest = line.partition("(")
    parameters, end, tail = rest.rpartition(")")
    mended = []
    has_default = False
    for parameter in split(parameters):
        has_default = has_default or "= ..." in parameter
        needs = has_default and "= ..." not in parameter and not parameter.strip().startswith("*")
        mended.append(f"{parameter} = ..." if needs else parameter)
    return f"{head}({','.join(mended)}{end}{tail}"


def split(parameters: str) -> list[str]:
    """At commas that are not inside brackets."""
    parts, depth = [""], 0
    for character in parameters:
        depth += (character in "[(") - (character in "])")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
