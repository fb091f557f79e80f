"""ferry as anyone would start it: from this repository, nothing tuned but the objective."""

from __future__ import annotations

import re
import shutil

from loadtests.child import HOST
from loadtests.peers.peer import ROOT, Launch, Peer, Visit, v2, v2_binary

SLO_MS = {"digits": 50}
"""Objectives that the overload part of the comparison asks for, in place of the published ones."""


def _launch(visit: Visit) -> Launch:
    """Serve a copy that holds this one model, as every other server holds one."""
    model = visit.folder / "models" / visit.model.name
    version = visit.model.file.parent
    shutil.copytree(version, model / version.name)
    wants = (version.parent / "model.toml").read_text()
    if (slo_ms := SLO_MS.get(visit.model.name)) is not None:
        wants = re.sub(r'^slo = "[^"]*"', f'slo = "{slo_ms}ms"', wants, flags=re.MULTILINE)
    (model / "model.toml").write_text(wants)
    command = [str(visit.python), "-m", "server.cli", "serve", "--repository", str(model.parent)]
    flags = ["--host", HOST, "--port", str(visit.port)]
    return Launch([*command, *flags], "/v2/health/ready", {"PYTHONPATH": str(ROOT)})


FERRY = Peer(
    name="ferry",
    label="ferry",
    package="ferry-serving",
    requirements=(),
    candidates={},
    settings="untuned: batches, instances and threads are what the published version measured; the objective is the published "
    "one, for digits the 50 ms of the overload test",
    launch=_launch,
    wire=v2,
    binary=v2_binary,
)
