"""Who may import whom: the table of the architecture, read from the source itself."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.architecture.source import Module, modules

ALLOWED: dict[str, tuple[str, ...]] = {
    "server.contract": ("server.contract",),
    "server.core": ("server.core", "server.contract"),
    "server.simulation": ("server.simulation", "server.core", "server.contract"),
    "server.recording": ("server.recording", "server.core", "server.contract"),
    "server.backends": ("server.backends", "server.contract", "server.errors"),
    "server.intake": ("server.intake", "server.contract", "server.backends"),
    "server.runtime": (
        "server", "server.runtime", "server.recording", "server.core", "server.contract", "server.errors", "server.backends.base", "server.backends.decoding",
        "server.generation", "server.intake", "server.telemetry",
    ),
    "server.generation": ("server.generation", "server.backends.base", "server.backends.decoding", "server.contract", "server.core", "server.errors"),
    "server.telemetry": ("server.telemetry", "server.core.types", "server.errors", "server.runtime.clock"),
    "server.api": (
        "server", "server.api", "server.contract", "server.errors", "server.runtime", "server.telemetry", "server.backends.base",
        "server.generation", "server.core.types", "server.core.lifecycle",
    ),
    "server.fleet": (
        "server", "server.fleet", "server.api", "server.contract", "server.errors", "server.runtime", "server.core.types",
        "server.backends.base", "server.recording.facts",
    ),
    "server.grpc_api": (
        "server", "server.grpc_api", "server.api", "server.generation", "server.contract", "server.errors", "server.runtime", "server.telemetry",
        "server.backends.base",
    ),
    "optimizer": ("optimizer", "server", "server.contract", "server.backends", "server.intake", "server.verbs"),
    "loadtests": ("loadtests",),
}  # fmt: skip
"""Package → the modules of this product that it may import."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "server.contract": (),
    "server.core": (),
    "server.simulation": (),
    "server.recording": ("orjson",),
    "server.backends": (
        "numpy",
        "onnxruntime",
        "openvino",
        "tokenizers",
        "llguidance",
        "google",
        "jinja2",
        "pynvml",
        "cuda",
        "tensorrt",
    ),
    "server.intake": ("numpy",),
    "server.generation": ("numpy",),
    "server.runtime": ("numpy",),
    "server.telemetry": ("prometheus_client",),
    "server.api": ("numpy", "fastapi", "starlette", "orjson", "simdjson", "pydantic", "uvicorn", "httptools"),
    "server.fleet": ("numpy", "orjson", "h11"),
    "server.grpc_api": ("numpy", "grpc", "google"),
}
"""Package → the third-party libraries that it may import."""

IMPURE = {
    "time",
    "asyncio",
    "threading",
    "random",
    "logging",
    "os",
    "io",
    "socket",
    "subprocess",
    "pathlib",
    "datetime",
    "numpy",
}
OURS = ("server", "optimizer", "loadtests")
GENERATORS = "loadtests.peers.generators"


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offences(package: str, is_wrong: Callable[[Module, str], bool]) -> list[str]:
    return [
        f"{module.where} imports {name}"
        for module in modules()
        if module.is_in(package)
        for name in module.imports
        if is_wrong(module, name)
    ]


def is_allowed(package: str, name: str) -> bool:
    """`server` itself holds only the version; as an entry it does not stand for its sub-packages."""
    return any(name == entry if entry == "server" else within(name, entry) for entry in ALLOWED[package])


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_the_table_allows(package: str) -> None:
    assert offences(package, lambda _, name: within(name, *OURS) and not is_allowed(package, name)) == []


@pytest.mark.parametrize("package", LIBRARIES)
def test_libraries_stay_where_they_belong(package: str) -> None:
    known = {*sys.stdlib_module_names, *OURS, *LIBRARIES[package]}
    assert offences(package, lambda _, name: name.split(".")[0] not in known) == []


def test_the_core_is_pure() -> None:
    assert offences("server.core", lambda _, name: name.split(".")[0] in IMPURE) == []


def test_backends_do_not_know_each_other() -> None:
    def another(module: Module, name: str) -> bool:
        known = (
            "server.backends.base",
            "server.backends.decoding",
            "server.backends.onnx_declaration",
            "server.backends.hf_text_codec",
            "server.backends.onnx_session",
            "server.backends.onnx_values",
            "server.backends.nvidia",
            "server.backends.cuda_memory",
            "server.backends.card_slots",
            "server.backends.record_gate",
            "server.backends",
            module.name,
        )
        return within(name, "server.backends") and name not in known and module.name != "server.backends.catalog"

    assert offences("server.backends", another) == []


def test_the_server_never_imports_the_optimizer_the_load_tests_or_torch() -> None:
    assert offences("server", lambda _, name: within(name, "optimizer", "loadtests", "torch")) == []


def test_the_load_tests_are_black_boxes() -> None:
    assert offences("loadtests", lambda module, name: within(name, *_forbidden_to(module))) == []


def _forbidden_to(module: Module) -> tuple[str, ...]:
    """Other people's generators run in an environment of their own, in which torch is theirs."""
    return ("server", "optimizer") if module.is_in(GENERATORS) else ("server", "optimizer", "torch")


def test_torch_lives_in_the_optimizer_only() -> None:
    ours = [module for module in modules() if not module.is_in(GENERATORS)]
    users = {module.name.split(".")[0] for module in ours for name in module.imports if within(name, "torch")}
    assert users == {"optimizer"}
