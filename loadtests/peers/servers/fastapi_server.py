"""The endpoint people write by themselves: FastAPI, one route, one onnxruntime session per worker, no batching."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from loadtests.peers.servers.setup import OnnxModel, plain, read_setup

app = FastAPI()
model = OnnxModel(read_setup())


@app.get("/health")
def health() -> dict[str, str]:
    """Whether it lives."""
    return {"status": "ok"}


@app.post("/predict")
async def predict(rows: dict[str, Any]) -> dict[str, Any]:
    """One row in, its outputs out."""
    return plain(model.run(model.tensors(rows)))
