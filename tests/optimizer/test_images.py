"""Images as bytes: what a model does to its pixels before its first layer is part of its graph, so it happens where the model calculates."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from optimizer.job import LadderWish
from optimizer.ladder.here import Here
from optimizer.ladder.trial import Trial
from optimizer.runs import Verdict
from server.backends.base import Backends
from server.backends.card_slots import N_SEEN
from server.backends.nvidia import Cards
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.layout import read_version
from server.contract.tensors import DataType
from tests.optimizer.bench import Bench
from tests.server.backends.host_card import HostCard, OnTheHost

IMAGES = """
import numpy as np
import torch

MAX_ROWS = 4
OUTPUTS = ["y"]

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16 * 36, 32))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1))

    def forward(self, image):
        pixels = image.permute(0, 3, 1, 2).to(torch.float32) / 255
        return self.net((pixels - self.mean) / self.std)

def build():
    return Net().eval()

def samples():
    made = np.random.default_rng(0)
    return [{"image": made.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)} for _ in range(6)]
"""

STEPS = "[gates]\nmin_cosine = 0.9\nmin_worst_cosine = 0.8\nmin_edge_cosine = 0.5\n" + "\n".join(
    f'[[candidates]]\nname = "{name}"\nsteps = [{{step = "{name}"{options}}}]'
    for name, options in (("fp16", ""), ("int8-static", ', activations = "s8", biases = "float"'))
)


def test_bytes_go_in_and_every_candidate_still_takes_them(bench: Bench, tmp_path: Path) -> None:
    bench.write(IMAGES)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(STEPS)
    backends = Backends({"onnxruntime": OnnxRuntimeBackend()})
    outcome = bench.run(ladder=LadderWish(Here(backends, Cards((), "no card")), recipe))
    assert outcome.verdict is Verdict.PUBLISHED
    files = read_version(bench.repository / "tiny", 1)
    (image,) = files.manifest.inputs
    assert (image.name, image.datatype, image.shape) == ("image", DataType.UINT8, ("batch", 8, 8, 3))
    first: dict[str, Trial] = {}
    for trial in bench.recorder.trials:
        first.setdefault(trial.name, trial)
    assert set(first) == {"fp16", "int8-static"}
    for trial in first.values():
        examined = trial.examined
        assert examined is not None, trial.failed
        assert examined.agreement is not None, trial.failed


def test_a_card_is_sent_a_byte_for_each_value(bench: Bench) -> None:
    bench.write(IMAGES)
    bench.run()
    folder = read_version(bench.repository / "tiny", 1).folder
    card, batch = HostCard(), {"image": np.random.default_rng(3).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)}
    with closing(OnnxRuntimeBackend().load(folder, 1)) as plain, closing(OnTheHost(card).load(folder, 1)) as session:
        (wanted,) = plain.run(batch)
        for _ in range(N_SEEN + 1):
            np.testing.assert_allclose(session.run(batch)[0], wanted, rtol=1e-6)
        assert {block.nbytes for block in card.pinned.values()} == {4 * 8 * 8 * 3, wanted.nbytes}
