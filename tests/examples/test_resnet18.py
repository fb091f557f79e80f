"""The network with random weights: the same at every call, and its answers depend on the image."""

from __future__ import annotations

import numpy as np
import torch

from tests.examples.test_examples import load


def test_every_call_builds_the_same_network_and_every_image_gets_its_own_answer() -> None:
    module = load("resnet18")
    images = torch.from_numpy(np.concatenate([one["image"] for one in module.samples()[:2]]))
    with torch.inference_mode():
        first, again = (module.build()(images).numpy() for _ in range(2))
    assert first.shape == (2, 1000)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[0] - first[1]).max() > 0.01
    assert 0.1 < first.std() < 100
