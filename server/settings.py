"""Every knob of the server, declared once: default < file < FERRY_* environment < flag. The only reader of the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

_KEY = re.compile(r"[!-+\--~]{8,}")
_SECRETS = ("admin_token", "api_keys")


class SettingsError(ValueError):
    """A setting is unknown or impossible; the message names it and where it came from."""


class Settings(BaseSettings):
    """What `ferry serve` can be told. Nothing here concerns batching: that follows from each model's SLO and profile."""

    model_config = SettingsConfigDict(env_prefix="FERRY_", env_ignore_empty=True, extra="forbid", frozen=True)

    repository: Path = Field(Path("model_repository"), description="Folder of the models to serve")
    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="Port for HTTP; 0 takes a free one and prints it")
    metrics_port: int = Field(
        8002, ge=0, le=65535, description="Port for /metrics alone, besides the main one; 0 takes a free one"
    )
    grpc_port: Annotated[int, Field(ge=0, le=65535)] | Literal["off"] = Field(
        8001, description='Port for gRPC; 0 takes a free one and prints it, "off" is no gRPC'
    )
    frontends: int = Field(
        0, ge=0, le=64, description="Front-end processes that share the port before one engine process; 0: all in one process"
    )
    admin_token: str | None = Field(None, min_length=8, description="Token of the admin API (header Authorization: Bearer)")
    api_keys: str = Field(
        "",
        description="Keys, by commas, one of which whoever asks models must bring (header Authorization: Bearer); without any nobody needs one",
    )
    max_body_bytes: int = Field(64 << 20, ge=1024, description="Largest body of an infer request, also when unpacked")
    compress_from_bytes: int = Field(
        0, ge=0, description="Replies from this size on are compressed for clients that accept it; 0 compresses none"
    )
    client_share: float = Field(
        0, ge=0, le=1, description="Share of the device's time that each client may have, like 0.25; 0 is no limit"
    )
    client_burst_s: float = Field(
        1, gt=0, description="A client that has been quiet may have its share of so many seconds at once"
    )
    client_header: str = Field(
        "authorization", pattern=r"^[A-Za-z0-9-]+$",
        description="Header (HTTP) or metadata (gRPC) that tells clients apart; those without it are told apart by address",
    )  # fmt: skip
    cors_origins: str = Field(
        "",
        description='Origins of web pages that may call /v1 from a browser, by commas, like https://chat.example; "*" is any, "" none',
    )
    shared_memory: Literal["off", "on"] = Field(
        "off", description="Tensors in system shared memory, for clients on this machine: on or off"
    )
    max_upload_bytes: int = Field(4 << 30, ge=1024, description="Largest upload of a model, also when unpacked")
    model_memory_bytes: int = Field(
        0, ge=0, description="Memory that all models on the processor may take together; 0 is no limit"
    )
    card_memory_bytes: int = Field(
        0, ge=0,
        description="Memory of the card that all models together may take; 0: what is free when the first one is loaded there",
    )  # fmt: skip
    profile_cache: Path | Literal["off"] | None = Field(
        None,
        description="Folder for profiles that the server measures of models which were profiled elsewhere; "
        'by default ferry/profiles in the user\'s cache folder, "off" keeps none',
    )
    registration_timeout_s: float = Field(600, gt=0, description="Longest time to check and profile an upload")
    receive_timeout_s: float = Field(
        20, gt=0, description="Longest time for a request's headers, and for its body beyond a second per 16 KiB"
    )
    idle_timeout_s: int = Field(75, ge=1, description="Longest time that a connection may stay open without a request")
    drain_timeout_s: int = Field(30, ge=1, description="Longest wait for accepted requests after SIGTERM")
    recordings: Path | Literal["temp", "off"] = Field(
        "temp",
        description='Folder for flight recordings of anomalies; "temp" is ferry-recordings-UID in the system\'s temporary folder, "off" is none',
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")

    @field_validator("api_keys")
    @classmethod
    def _can_be_brought(cls, keys: str) -> str:
        if keys and not all(_KEY.fullmatch(key) for key in keys.split(",")):
            raise ValueError(
                "a key has 8 or more characters of printable ASCII, none of them a blank or a comma; several are told apart by commas"
            )
        return keys

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


def read_settings(flags: dict[str, Any], file: Path | None) -> Settings:
    """Merge all sources; `flags` holds only what was given. Raises SettingsError."""
    if file is not None and not file.is_file():
        raise SettingsError(f"settings file {file}: not found")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        return FromFile(**flags)
    except (ValidationError, ValueError) as error:
        raise SettingsError(_explain(error)) from None


def profile_cache_folder(settings: Settings) -> Path | None:
    """Where measured profiles are kept; None: nowhere."""
    if settings.profile_cache is not None:
        return None if settings.profile_cache == "off" else Path(settings.profile_cache)
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")
    if not home:
        return None
    return Path(home, *(() if os.environ.get("XDG_CACHE_HOME") else (".cache",)), "ferry", "profiles")


def tell_libraries() -> None:
    """What libraries read from the environment themselves, before they are imported. Whoever has set a variable has decided.

    tokenizers would use a pool of threads for a batch of texts: on few cores they are missing to the model and the event loop.
    grpc would prepare for a fork in which its server goes on, though ours only start other programs; its handlers have been
    seen to wait for ever in the child, and the event loop with them for its start.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")


def settings_table() -> str:
    """The knobs as a Markdown table, for docs/settings.md."""
    lines = ["| setting | flag | environment | default | what it does |", "|---|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        lines.append(f"| `{name}` | `{flag}` | `FERRY_{name.upper()}` | `{field.default}` | {field.description} |")
    return "\n".join(lines) + "\n"


def _explain(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"settings file: {error}"
    first = error.errors()[0]
    name = str(first["loc"][0])
    wanted = " or ".join(one["msg"].removeprefix("Value error, ") for one in error.errors() if one["loc"][0] == name)
    found = "" if name in _SECRETS else f" (found {first['input']!r})"
    return f"setting {name!r}: {wanted}{found}; see `ferry serve --help`"
