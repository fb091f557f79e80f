"""KServe's REST client, unmodified, against a running server: `python -m tests.conformance.kserve_client URL`.

It brings some thirty packages along, so it is no dependency of the tests: install `kserve` where this is to run.
The server must hold the model `affine` of tests/models.py. Prints one line per check; exit status 1 when one fails.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import kserve
import numpy as np

X = np.arange(8, dtype=np.float32).reshape(2, 4)


async def check_health(client: Any, url: str) -> None:
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "affine")
    assert not await client.is_model_ready(url, "nosuch")


async def check_json(client: Any, url: str) -> None:
    given = kserve.InferInput("x", [2, 4], "FP32")
    given.set_data_from_numpy(X, binary_data=False)
    reply = await client.infer(url, kserve.InferRequest("affine", [given], request_id="k-1"), model_name="affine")
    assert (reply.id, reply.model_name) == ("k-1", "affine")
    assert np.array_equal(reply.outputs[0].as_numpy(), 2 * X + 1)


async def check_binary(client: Any, url: str) -> None:
    given = kserve.InferInput("x", [2, 4], "FP32")
    given.set_data_from_numpy(X, binary_data=True)
    request = kserve.InferRequest("affine", [given], parameters={"binary_data_output": True})
    reply = await client.infer(url, request, model_name="affine")
    assert np.array_equal(reply.outputs[0].as_numpy(), 2 * X + 1)


async def check_errors(client: Any, url: str) -> None:
    told = ""
    try:
        await client.infer(url, {"inputs": []}, model_name="affine")
    except Exception as error:  # which type it is differs between releases
        told = str(error)
    assert "'inputs' must be a list" in told, told


CHECKS: tuple[Callable[[Any, str], Awaitable[None]], ...] = (check_health, check_json, check_binary, check_errors)


async def main(url: str) -> int:
    print(f"kserve {version('kserve')}")
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
    failed = 0
    for check in CHECKS:
        try:
            await check(client, url)
            print(f"{check.__name__}: passed")
        except Exception as error:  # every check is run, whatever the one before it came to
            failed += 1
            print(f"{check.__name__}: FAILED: {type(error).__name__}: {error}")
    await client.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
