"""The small networks, each built once."""

from __future__ import annotations

import pytest

from tests.optimizer.transforms.graphs import Net, chained, with_a_harmful_layer
from tests.optimizer.transforms.graphs import encoder as export_encoder


@pytest.fixture(scope="session")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return chained(tmp_path_factory.mktemp("cnn") / "cnn.onnx")


@pytest.fixture(scope="session")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return with_a_harmful_layer(tmp_path_factory.mktemp("harmed") / "harmed.onnx")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return export_encoder(tmp_path_factory.mktemp("encoder") / "encoder.onnx")
