"""How metadata and configuration tell that a model takes text, without listing it among the inputs.

Clients such as perf_analyzer send every input that is listed, and a request gives either the tensors or the text.
"""

from __future__ import annotations

from server.runtime.served import ServedModel


def text_parameters(model: ServedModel) -> dict[str, str]:
    """Names and values as a configuration's `parameters` have them; empty for a model that takes tensors only."""
    text, ragged = model.manifest.text, model.manifest.ragged
    if text is None or ragged is None:
        return {}
    told = {
        "text_input": text.input,
        "text_instead_of": ", ".join(text.filled),
        "text_max_tokens": str(ragged.longest),
        "text_max_bytes": str(text.max_bytes),
        "text_too_long": "refused, unless the request's parameter truncate is true",
    }
    return told | ({"embedding": text.embedding} if text.embedding else {})
