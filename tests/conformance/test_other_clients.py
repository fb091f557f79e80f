"""The scripts of this folder against the tests' server, where what they need is installed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

import pytest

from tests.child_server import ChildServer


def run(module: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="kserve is not installed: it brings 30 packages along")
def test_the_kserve_client(server: ChildServer) -> None:
    assert run("tests.conformance.kserve_client", f"http://127.0.0.1:{server.port}").count("passed") == 4


@pytest.mark.skipif(shutil.which("perf_analyzer") is None, reason="perf_analyzer 2.41.1 is not on the PATH")
def test_perf_analyzer(sharing_server: ChildServer) -> None:
    http, grpc = (f"127.0.0.1:{port}" for port in (sharing_server.port, sharing_server.grpc_port))
    assert run("tests.conformance.perf_analyzer", http, "--grpc", grpc).count("works") == 9
