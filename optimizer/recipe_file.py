"""A recipe as a file that a human writes, and what all recipes say in the same way. Read strictly."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from optimizer.ladder.limits import Limits
from server.contract.durations import parse_duration
from server.contract.errors import ContractError
from server.contract.fields import Fields

_SIZES = {"B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(B|kB|MB|GB)\s*")


def read_fields(path: Path) -> Fields:
    """What the file says. Raises ContractError."""
    where = str(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ContractError(f"{where}: no such file; give a recipe, or leave --recipe out for the default one") from None
    except OSError as error:
        raise ContractError(f"{where}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number or nesting without bounds
        raise ContractError(f"{where}: not valid TOML: {error}") from None
    return Fields(data, where)


def share(fields: Fields, key: str, usual: float) -> float:
    """A share of 1; `usual`: where the file does not say. Raises ContractError."""
    value = fields.number(key) if fields.has(key) else usual
    if value > 1:
        raise fields.wrong(key, f"must be a share of 1; write one like {usual:g}, found {value:g}")
    return value


def limits_of(fields: Fields, usual: Limits) -> Limits:
    """Of the processes of a candidate; `usual`: where the file does not say. Raises ContractError."""
    fields.only(("time", "memory"))
    return Limits(
        parse_duration(fields.text("time"), f"{fields.where}: time") if fields.has("time") else usual.time_s,
        n_bytes(fields, "memory") if fields.has("memory") else usual.memory_bytes,
    )


def n_bytes(fields: Fields, key: str) -> int:
    """A size with its unit. Raises ContractError."""
    text = fields.text(key)
    match = _SIZE.fullmatch(text)
    found = int(float(match[1]) * _SIZES[match[2]]) if match else 0
    if found < 1:
        raise fields.wrong(key, f'must be a positive size with a unit of {", ".join(_SIZES)}, like "30MB"; found {text!r}')
    return found
