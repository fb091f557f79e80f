"""The admin routes: register a version by upload, list what is there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from server.api.guard import Guard
from server.contract.durations import format_duration, parse_duration
from server.contract.errors import ContractError
from server.contract.profile import Profile
from server.errors import BadRequest, Cancelled
from server.runtime.registration import Registrar, Registration
from server.runtime.registry import Registry, Served
from server.runtime.served import ServedModel
from server.runtime.served_decoder import ServedDecoder


def admin_routes(registry: Registry, registrar: Registrar, guard: Guard) -> APIRouter:
    """Routes under /admin, all behind `guard`."""
    routes = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(guard)])

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """Every model with its versions, states, SLO and profile."""
        serving = {model.key.name: model for model in registry.served}
        return {"models": [_describe(registry, name, serving.get(name)) for name in registry.names()]}

    @routes.post("/models/{name}/versions", status_code=201, openapi_extra=_UPLOAD)
    async def register(
        name: str,
        request: Request,
        slo: str | None = None,
        lengths: str | None = None,
        max_rows: int | None = None,
    ) -> JSONResponse:
        """Check, profile, store and load a new version. The body is an .onnx file, or a .tar.gz or .zip of a version folder.

        `slo` ("20ms") is needed for a new model. `lengths` ("3:256") bounds the ragged axis; `max_rows` the batch.
        """
        if max_rows is not None and not 1 <= max_rows <= MOST_ROWS:
            raise BadRequest(f"max_rows is {max_rows}; 1 to {MOST_ROWS} is possible")
        registration = Registration(name, _seconds(slo), _bounds(lengths), max_rows)
        version = await registrar.register(registration, _body(request))
        model = await registry.load(name)
        return JSONResponse({"name": name, "version": version, **_served(model)}, status_code=201)

    return routes


MOST_ROWS, LONGEST = 4096, 1 << 20
LEAST_SLO_S, MOST_SLO_S = 1e-4, 3600.0

_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise Cancelled("the client closed the connection during the upload") from None


def _seconds(slo: str | None) -> float | None:
    if slo is None:
        return None
    try:
        seconds = parse_duration(slo, "slo")
    except ContractError as error:
        raise BadRequest(str(error)) from None
    if not LEAST_SLO_S <= seconds <= MOST_SLO_S:
        raise BadRequest(f"slo is {slo!r}; {LEAST_SLO_S * 1e3:g} ms to {MOST_SLO_S / 60:g} m is possible")
    return seconds


def _bounds(lengths: str | None) -> tuple[int, int] | None:
    if lengths is None:
        return None
    match = re.fullmatch(r"([0-9]{1,7}):([0-9]{1,7})", lengths)
    low, high = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= low <= high <= LONGEST:
        raise BadRequest(f"lengths is {lengths!r}; write the least and the greatest (at most {LONGEST}), like 3:256")
    return low, high


def _describe(registry: Registry, name: str, model: Served | None) -> dict[str, Any]:
    versions = [
        {"version": version, "state": status.state.value, "reason": status.reason}
        for version, status in registry.status(name).items()
    ]
    problem = registry.problem(name)
    return {"name": name, "versions": versions, **(_served(model) if model else {"problem": problem})}


def _served(model: Served) -> dict[str, Any]:
    profile = _profile(model.terms.profile) if isinstance(model, ServedModel) else _steps(model)
    return {
        "serving": model.key.version,
        "slo": format_duration(model.slo_s),
        "classes": [
            {"name": one.name, "priority": n, "slo": format_duration(one.slo_s)} for n, one in enumerate(model.classes.all, 1)
        ],
        "default_class": model.classes.of(0).name,
        "max_rows": model.max_rows,
        "placement": {"instances": model.placement.instances, "threads": model.placement.threads, "why": model.terms.why},
        "profile": {"source": model.terms.source.value, **profile},
        "checks": [{"name": check.name, "passed": check.passed, "detail": check.detail} for check in model.manifest.checks],
    }


def _steps(model: ServedDecoder) -> dict[str, Any]:
    """Of a model that generates: what was promised and measured of single tokens."""
    terms, longest = model.terms, model.generation.longest
    return {
        "device": terms.profile.device.to_json(),
        "gap": format_duration(model.gap_s),
        "slots": model.limits.slots,
        "longest": longest,
        "one_token_ms": round(terms.costs.decode_s(1, longest // 2) * 1e3, 4),
        "all_slots_ms": round(terms.costs.decode_s(model.limits.slots, model.limits.slots * longest // 2) * 1e3, 4),
        "prompt_64_tokens_ms": round(terms.costs.prefill_s(model.limits.chunk) * 1e3, 4),
    }


def _profile(profile: Profile | None) -> dict[str, Any]:
    """Nothing while it is being learnt."""
    if profile is None:
        return {}
    longest = profile.measured_lengths[-1]
    return {
        "device": profile.device.to_json(),
        "one_row_ms": round(profile.predict(1, longest) * 1e3, 4),
        "at_length": longest or None,
        "peak_rows_per_s": round(profile.peak_rate(longest), 1),
        "tokenizer_us_per_token": round(profile.text.token_s * 1e6, 3) if profile.text else None,
    }
