"""A process that registers an upload and kills itself at its n-th change of the disk, or after it started its own child.

Started by tests with: python -m tests.server.contract.doomed_registration KILL_AT UPLOAD REPOSITORY MODEL.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from server.runtime.registration import Registrar, Registration
from tests.server.contract.doomed import NEW_WANTS, Doom


async def register(doom: Doom, upload: bytes, repository: Path, model: str) -> None:
    start = asyncio.create_subprocess_exec

    async def counted(*args: Any, **options: Any) -> Any:
        if doom.count("examine"):
            doom.die()
        child = await start(*args, **options)
        if doom.count("examining"):
            child.kill()  # a test must not leave it behind
            doom.die()
        return child

    async def body() -> AsyncIterator[bytes]:
        for part in (upload[:100], upload[100:]):
            if doom.count("receive"):
                doom.die()
            yield part

    asyncio.create_subprocess_exec = counted
    registrar = Registrar(repository, 1 << 20, 60.0)
    await registrar.register(Registration(model, NEW_WANTS.slo_s, None, None), body())


def main(kill_at: int, upload: Path, repository: Path, model: str) -> None:
    doom = Doom(kill_at)
    doom.install()
    asyncio.run(register(doom, upload.read_bytes(), repository, model))
    print("\n".join(doom.calls))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
