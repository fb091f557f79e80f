"""What tests of generation share: small tokenizers, a chat template, and the manifest of a version that generates."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from server.backends.hf_text_codec import HfTextCodec
from server.backends.hf_tokenizers import HfTokenizers
from server.contract.generation import Generation, KeptShape
from server.contract.tensors import DataType

BEGIN, END, USER, ASSISTANT, SYSTEM = "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
SPECIALS = (BEGIN, END, USER, ASSISTANT, SYSTEM)

MERGED = ("th", "the", "Ġthe", "Ġa", "an", "er", "in", "STO", "STOP", "ä¸Ń")
"""Tokens of more than one byte, as a byte-level vocabulary writes them; the last one is a whole Chinese character."""

TEMPLATE = """{%- for message in messages %}
    {%- if message.role not in ("system", "user", "assistant") %}
        {{- raise_exception("no role " ~ message.role) }}
    {%- endif %}
    {{- "<|" ~ message.role ~ "|>" ~ message.content ~ eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|assistant|>" }}{% endif %}"""


def byte_level() -> str:
    """A byte-level tokenizer's file: 256 bytes, MERGED, SPECIALS; it puts BEGIN before a text."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    merges = []
    for token in MERGED:
        for end in range(2, len(token) + 1):
            if token[:end] not in vocabulary:
                vocabulary[token[:end]] = len(vocabulary)
                merges.append((token[: end - 1], token[end - 1]))
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIALS))
    made.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, made.token_to_id(BEGIN))])
    return str(made.to_str())


def sentence_pieces() -> str:
    """A tokenizer's file as SentencePiece models have it: words with a mark for the space, other characters byte by byte."""
    import tokenizers
    from tokenizers import decoders, models, normalizers

    words = [
        "<unk>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581",
        *"abcdefghijklmnopqrstuvwxyz",
        "\u2581a",
        "\u2581b",
    ]
    vocabulary = {word: number for number, word in enumerate(words)}
    merges = [("\u2581", "a"), ("\u2581", "b")]
    made = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(["<s>"])
    return str(made.to_str())


def generation(ends: tuple[int, ...] = (), vocabulary: int = 300, longest: int = 256) -> Generation:
    """The section of a manifest; its files are `tokenizer.json` and `chat_template.jinja`."""
    specials = {"bos_token": BEGIN, "eos_token": END}
    return Generation(
        "tokenizer.json", "chat_template.jinja", specials, ends, vocabulary, longest, KeptShape(2, 2, 8, DataType.FP32)
    )


@cache
def codec() -> HfTextCodec:
    """Of the byte-level tokenizer and TEMPLATE."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokenizer.json").write_text(byte_level(), encoding="utf-8")
        (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
        return HfTokenizers().codec(folder, generation())


def end_id() -> int:
    """Of the token that ends answers."""
    return codec().encode(END, special=False)[0]
