"""ferry as anyone would start it: from this repository, nothing tuned but the objective."""

from __future__ import annotations

from loadtests.child import HOST
from loadtests.peers.peer import ROOT, Launch, Peer, Visit, v2, v2_binary
from loadtests.published import copy_of


def _launch(visit: Visit) -> Launch:
    """Serve a copy that holds this one model, as every other server holds one."""
    models = visit.folder / "models"
    copy_of(visit.model.file.parent, models, visit.slo_s)
    command = [str(visit.python), "-m", "server.cli", "serve", "--repository", str(models)]
    flags = ["--host", HOST, "--port", str(visit.port)]
    return Launch([*command, *flags], "/v2/health/ready", {"PYTHONPATH": str(ROOT)})


FERRY = Peer(
    name="ferry",
    label="ferry",
    package="ferry-serving",
    requirements=(),
    candidates={},
    settings="untuned: batches, instances and threads are what the published version measured; the objective is the overload test's, "
    "or one that all connections of the closed loop can keep",
    launch=_launch,
    wire=v2,
    binary=v2_binary,
)
