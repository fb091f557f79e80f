"""A checkpoint folder as transformers writes it: what the server must know of it, and what is wrong with it. Loads no library."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from optimizer.errors import SourceError
from optimizer.store import stable_hash
from server.contract.errors import ContractError
from server.contract.fields import Fields
from server.contract.generation import Generation, KeptShape
from server.contract.layout import CHAT_TEMPLATE, TOKENIZER, describe_file
from server.contract.tensors import DataType

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
"""Decoders whose export is known to become a graph that the server can drive."""

CONFIG, GENERATION_CONFIG, TOKENIZER_CONFIG = "config.json", "generation_config.json", "tokenizer_config.json"
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"

MOST_TOKENS = 4096
"""Of one request, where nobody asks for more: each slot is that long, whoever uses it."""

_SPECIALS = ("bos_token", "eos_token", "unk_token", "pad_token")
_LEAST_TOKENS = 32
_HEADER_BYTES = 8

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`files`: all that decide what is generated. `template`: the chat template's text, None where there is none. `begins`: the id
    that begins a text, None where there is none."""

    folder: Path
    architecture: str
    files: tuple[Path, ...]
    generation: Generation
    template: str | None
    begins: int | None

    @property
    def digest(self) -> str:
        """Sha256 over names and contents of `files`."""
        return stable_hash([[path.name, describe_file(path).sha256] for path in self.files])

    @property
    def tokenizer(self) -> Path:
        """For the `tokenizers` library."""
        return self.folder / TOKENIZER


def read_checkpoint(folder: Path, longest: int | None = None) -> Checkpoint:
    """`longest`: most tokens of a request, prompt and answer; None: what the model was made for, at most MOST_TOKENS.

    Raises SourceError naming the file, and ContractError naming file and field.
    """
    config = _fields(folder, CONFIG)
    architecture = _architecture(config)
    files = [folder / CONFIG, *_weights(folder)]
    vocabulary = config.integer("vocab_size", 1)
    n_tokens = _longest(config, longest)
    _check_window(config, n_tokens)
    files.append(_tokenizer(folder, vocabulary))
    settings = _optional(folder, TOKENIZER_CONFIG)
    template = _template(folder, settings)
    generation = Generation(
        tokenizer=TOKENIZER,
        template=None if template is None else CHAT_TEMPLATE,
        specials=_specials(settings),
        ends=_ends((_optional(folder, GENERATION_CONFIG), config), vocabulary),
        vocabulary=vocabulary,
        longest=n_tokens,
        kept=_kept(config),
    )
    optional = (GENERATION_CONFIG, TOKENIZER_CONFIG, CHAT_TEMPLATE)
    files += [folder / name for name in optional if (folder / name).is_file()]
    return Checkpoint(folder, architecture, tuple(files), generation, template, _begins(config, vocabulary))


def _architecture(config: Fields) -> str:
    names = config.items("architectures")
    if len(names) != 1 or names[0] not in ARCHITECTURES:
        raise config.wrong("architectures", f"must be one of {', '.join(ARCHITECTURES)}; found {names}")
    if config.has("quantization_config"):
        raise config.wrong("quantization_config", "says that the weights are quantized already; give the original ones")
    return str(names[0])


def _longest(config: Fields, wished: int | None) -> int:
    most = config.integer("max_position_embeddings", _LEAST_TOKENS)
    if wished is None:
        return min(most, MOST_TOKENS)
    if not _LEAST_TOKENS <= wished <= most:
        raise config.wrong(
            "max_position_embeddings", f"allows requests of {_LEAST_TOKENS} to {most} tokens, asked for are {wished}"
        )
    return wished


def _check_window(config: Fields, longest: int) -> None:
    """Attention that forgets is exported off by a token: tokens past the window would be others than the original's."""
    if not config.has("sliding_window") or (config.has("use_sliding_window") and not config.flag("use_sliding_window")):
        return
    window = config.integer("sliding_window")
    if window < longest:
        raise config.wrong(
            "sliding_window", f"is {window}: such attention is served up to the window only; say --lengths 1:{window} or less"
        )


def _kept(config: Fields) -> KeptShape:
    heads = config.integer("num_attention_heads", 1)
    kept_heads = config.integer("num_key_value_heads", 1) if config.has("num_key_value_heads") else heads
    head_size = config.integer("head_dim", 1) if config.has("head_dim") else config.integer("hidden_size", 1) // heads
    return KeptShape(config.integer("num_hidden_layers", 1), kept_heads, head_size, DataType.FP32)


def _weights(folder: Path) -> list[Path]:
    """The safetensors files, the index first where there are several. Raises SourceError for a missing or cut one."""
    if (folder / WEIGHTS_INDEX).is_file():
        named = _fields(folder, WEIGHTS_INDEX).mapping("weight_map")
        files = [folder / WEIGHTS_INDEX, *(folder / name for name in sorted(set(named.values())))]
    else:
        files = [folder / WEIGHTS]
    for path in files:
        if not path.is_file():
            raise SourceError(f"{path}: missing; give a folder as save_pretrained of transformers writes it, with safetensors")
        if path.name != WEIGHTS_INDEX:
            _check_whole(path)
    return files


def _check_whole(path: Path) -> None:
    """The format: the header's length in 8 bytes, the header as JSON, then the tensors at the offsets that it says."""
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(_HEADER_BYTES), "little")
        if n_header > n_bytes:
            raise SourceError(f"{path}: not a safetensors file, or cut off; get it again")
        try:
            header = json.loads(file.read(n_header))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            raise SourceError(f"{path}: not a safetensors file: its header cannot be read; get it again") from None
    wanted = _HEADER_BYTES + n_header + max(ends, default=0)
    if n_bytes != wanted:
        raise SourceError(f"{path}: damaged: {n_bytes} bytes where its header says {wanted}; get it again")


def _tokenizer(folder: Path, vocabulary: int) -> Path:
    """Raises SourceError when it is missing, or has ids that the model does not know."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise SourceError(f"{path}: missing; the server needs the file of the tokenizers library: save a fast tokenizer there")
    fields = _fields(folder, TOKENIZER)
    vocab = fields.child("model")
    known = _either(lambda: vocab.mapping("vocab"), lambda: vocab.items("vocab"))
    ids = [len(known) - 1] if isinstance(known, list) else list(known.values())
    ids += [entry.integer("id") for entry in fields.children("added_tokens")] if fields.has("added_tokens") else []
    if not ids or max(ids) >= vocabulary:
        raise SourceError(
            f"{path}: has ids up to {max(ids, default=-1)}, but {CONFIG} says vocab_size {vocabulary}; "
            "they are not of the same model"
        )
    return path


def _either(first: Callable[[], T], second: Callable[[], U]) -> T | U:
    """A field that may be one of two kinds; of one that is neither, the second's error is told."""
    try:
        return first()
    except ContractError:
        return second()


def _template(folder: Path, settings: Fields | None) -> str | None:
    """A file of its own, else a text in the tokenizer's settings, or a list of named ones, of which one is the default."""
    if (folder / CHAT_TEMPLATE).is_file():
        return (folder / CHAT_TEMPLATE).read_text(encoding="utf-8")
    if settings is None or not settings.has("chat_template"):
        return None
    found = _either(lambda: settings.text("chat_template"), lambda: settings.children("chat_template"))
    if isinstance(found, str):
        return found
    named = {entry.text("name"): entry.text("template") for entry in found}
    if "default" not in named:
        raise settings.wrong("chat_template", f"must have one named 'default', found {sorted(named)}")
    return named["default"]


def _specials(settings: Fields | None) -> dict[str, str]:
    if settings is None:
        return {}
    return {name: _special(settings, name) for name in _SPECIALS if settings.has(name)}


def _special(settings: Fields, name: str) -> str:
    """A text, or an object that has it as `content`."""
    return _either(lambda: settings.text(name), lambda: settings.child(name).text("content"))


def _ends(places: Sequence[Fields | None], vocabulary: int) -> tuple[int, ...]:
    """Ids that end an answer, one or several: of the first place that says any."""
    fields = next((one for one in places if one is not None and one.has("eos_token_id")), None)
    if fields is None:
        return ()
    found = _either(lambda: [fields.integer("eos_token_id")], lambda: fields.items("eos_token_id"))
    if any(type(end) is not int or not 0 <= end < vocabulary for end in found):
        raise fields.wrong("eos_token_id", f"must be ids from 0 to {vocabulary - 1}, found {found}")
    return tuple(found)


def _begins(config: Fields, vocabulary: int) -> int | None:
    if not config.has("bos_token_id"):
        return None
    begins = config.integer("bos_token_id")
    if begins >= vocabulary:
        raise config.wrong("bos_token_id", f"must be below vocab_size {vocabulary}, found {begins}")
    return begins


def _fields(folder: Path, name: str) -> Fields:
    path = folder / name
    try:
        return Fields(json.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError:
        raise SourceError(f"{path}: missing; give a folder as save_pretrained of transformers writes it") from None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nesting without bounds
        raise SourceError(f"{path}: not valid JSON ({error})") from None


def _optional(folder: Path, name: str) -> Fields | None:
    return _fields(folder, name) if (folder / name).is_file() else None
