"""Registering an uploaded version: received, checked and profiled in a child process, then published by one rename."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from server.contract.errors import ContractError
from server.contract.layout import check_model_name
from server.contract.publish import publish, staging
from server.contract.wants import FILE as WANTS_FILE
from server.contract.wants import Wants, read_wants
from server.errors import BadRequest, TooLarge
from server.intake.errors import IntakeError
from server.intake.unpack import is_archive, unpack

log = logging.getLogger(__name__)

UPLOAD = "upload"
VERSION = "version"


@dataclass(frozen=True, slots=True)
class Registration:
    """What the client says about its upload. None: not said."""

    name: str
    slo_s: float | None
    lengths: tuple[int, int] | None
    max_rows: int | None


class Registrar:
    """Takes uploads for one repository. A bad one, or a crash at any moment, leaves the repository as it was."""

    def __init__(self, repository: Path, max_upload_bytes: int, timeout_s: float) -> None:
        self._repository = repository
        self._max_upload_bytes = max_upload_bytes
        self._timeout_s = timeout_s

    async def register(self, registration: Registration, body: AsyncIterator[bytes]) -> int:
        """The number of the new version, which is on disk and checked but not loaded yet.

        Raises BadRequest with the reason when it is refused, TooLarge for an upload over the limit.
        """
        self._wants(registration)  # what is wrong with it is told before anything is received
        async with _staging(self._repository) as folder:
            await self._receive(body, folder / UPLOAD)
            try:
                await asyncio.to_thread(_lay_out, folder, self._max_upload_bytes)
            except IntakeError as error:
                raise BadRequest(f"model {registration.name!r}: {error}") from None
            await self._examine(folder / VERSION, registration)
            wants = self._wants(registration)  # again: people may have edited it meanwhile
            version = await _whole(publish, folder / VERSION, self._repository, registration.name, wants)
        log.info("%s/%d: registered by upload", registration.name, version)
        return version

    def _wants(self, registration: Registration) -> Wants | None:
        try:
            check_model_name(registration.name)
            path = self._repository / registration.name / WANTS_FILE
            if path.exists():
                return None if registration.slo_s is None else read_wants(path).asked(registration.slo_s)
        except ContractError as error:
            raise BadRequest(str(error)) from None
        if registration.slo_s is not None:
            return Wants(registration.slo_s)
        if not path.parent.is_dir():
            raise BadRequest(f"model {registration.name!r} is new: say its latency objective, like ?slo=50ms")
        return None

    async def _receive(self, body: AsyncIterator[bytes], path: Path) -> None:
        size = 0
        try:
            with path.open("wb") as file:
                async for chunk in body:
                    size += len(chunk)
                    if size > self._max_upload_bytes:
                        raise TooLarge(
                            f"the upload has more than {self._max_upload_bytes} bytes; raise the server's max_upload_bytes"
                        )
                    await asyncio.to_thread(file.write, chunk)
        except OSError as error:
            raise TooLarge(f"the upload does not fit on the repository's disk ({error.strerror}); make room there") from None
        if not size:
            raise BadRequest("the upload is empty; send an .onnx file, or a .tar.gz or .zip of a version folder")

    async def _examine(self, folder: Path, registration: Registration) -> None:
        """In a child process: a model that crashes, hangs or eats memory while it is tried must not take the server along."""
        options = {"name": registration.name, "lengths": registration.lengths, "max_rows": registration.max_rows}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.intake.child", str(folder), json.dumps(options),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            verdict, noise = await asyncio.wait_for(_read_to_end(child), self._timeout_s)
        except TimeoutError:
            raise BadRequest(
                f"model {registration.name!r} was not checked and profiled within {self._timeout_s:g} s; "
                "lower max_rows or lengths, or raise the server's registration_timeout_s"
            ) from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode == 0:
            return
        reason = verdict.decode(errors="replace").strip()
        if not reason:
            log.error("the intake of %s died with %s: %s", registration.name, child.returncode, noise.decode(errors="replace"))
            reason = f"checking it killed the process (exit status {child.returncode}); is the file damaged, or too large for memory?"
        raise BadRequest(f"model {registration.name!r}: {reason}")


@asynccontextmanager
async def _staging(repository: Path) -> AsyncIterator[Path]:
    """`staging`, off the event loop: it waits for the repository's lock, and removing a large upload takes time."""
    scratch = staging(repository)
    folder = await asyncio.to_thread(scratch.__enter__)
    try:
        yield folder
    finally:
        await asyncio.to_thread(scratch.__exit__, None, None, None)


async def _whole(work: Callable[..., int], *arguments: object) -> int:
    """In a thread, and waited for even if we are cancelled: its folder must not be removed under its hands."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _read_to_end(child: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    """Like communicate(), but standard input stays open until the child has ended: its end tells the child that we died."""
    assert child.stdout is not None
    assert child.stderr is not None
    verdict, noise, _ = await asyncio.gather(child.stdout.read(), child.stderr.read(), child.wait())
    return verdict, noise


def _lay_out(folder: Path, most_bytes: int) -> None:
    """Turn the upload into a version folder. Raises IntakeError for an archive that is damaged or unsafe."""
    if is_archive(folder / UPLOAD):
        unpack(folder / UPLOAD, folder / VERSION, most_bytes)
    else:
        (folder / VERSION).mkdir()
        (folder / UPLOAD).rename(folder / VERSION / "model.onnx")
