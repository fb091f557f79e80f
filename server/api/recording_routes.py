"""The flight recorder's route: what the scheduler was told and decided lately, without payloads."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse

from server.api.guard import Guard
from server.runtime.recorder import Recorder


def recording_routes(recorder: Recorder, guard: Guard) -> APIRouter:
    """GET /admin/recording, behind `guard`."""
    routes = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(guard)])

    @routes.get("/recording", response_class=StreamingResponse)
    async def recording() -> StreamingResponse:
        """The flight recorder's memory as JSON lines, for `ferry replay` and `ferry explain --file`."""
        headers = {"content-disposition": 'attachment; filename="ferry-recording.jsonl"'}
        return StreamingResponse(recorder.pieces("asked for"), media_type="application/x-ndjson", headers=headers)

    return routes
