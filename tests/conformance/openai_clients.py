"""Programs that speak OpenAI's form, unmodified, against a running server: `python -m tests.conformance.openai_clients URL --chat MODEL --embeddings MODEL`.

They bring some hundred packages along and do not all go together, so they are no dependencies of the tests: run this in environments that have
some of them each. Whichever is not installed is told. Prints one line per check; exit status 1 when one fails.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

from pydantic import BaseModel, Field

ASKED = "What does git commit do?"
CONVERSATION: Any = [{"role": "user", "content": ASKED}]
LIKELIEST: Any = {"max_tokens": 20, "temperature": 0}


class Review(BaseModel):
    """What answers are held to. As pydantic writes its schema, it does not say that there are no other properties."""

    mood: str = Field(max_length=10)
    stars: int = Field(ge=1, le=5)


class Server(NamedTuple):
    """Where it is, and what it serves."""

    url: str
    chat: str
    embeddings: str
    key: str


def langchain(to: Server) -> None:
    from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

    chat = ChatOpenAI(model=to.chat, base_url=to.url, api_key=to.key, **LIKELIEST)
    answer = chat.invoke(ASKED)
    assert answer.content == "".join(str(part.content) for part in chat.stream(ASKED))
    assert [one.content for one in chat.batch([ASKED] * 3)] == [answer.content] * 3
    longer = ChatOpenAI(model=to.chat, base_url=to.url, api_key=to.key, max_tokens=400, temperature=0)
    assert isinstance(longer.with_structured_output(Review, method="json_schema").invoke(ASKED), Review)
    whole = OpenAI(model=to.chat, base_url=to.url, api_key=to.key, **LIKELIEST)
    assert whole.invoke(ASKED) == "".join(whole.stream(ASKED))
    embeddings = OpenAIEmbeddings(model=to.embeddings, base_url=to.url, api_key=to.key, check_embedding_ctx_length=False)
    one, other = embeddings.embed_documents(["a cat", "a dog"])
    assert one != other
    assert len(one) == len(embeddings.embed_query("a cat"))


def llama_index(to: Server) -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding
    from llama_index.llms.openai_like import OpenAILike

    chat = OpenAILike(model=to.chat, api_base=to.url, api_key=to.key, is_chat_model=True, **LIKELIEST)
    messages = [ChatMessage(role="user", content=ASKED)]
    assert chat.chat(messages).message.content == "".join(part.delta or "" for part in chat.stream_chat(messages))
    assert OpenAILike(model=to.chat, api_base=to.url, api_key=to.key, is_chat_model=False, **LIKELIEST).complete(ASKED).text
    assert OpenAILikeEmbedding(model_name=to.embeddings, api_base=to.url, api_key=to.key).get_text_embedding("a cat")


def openai_agents(to: Server) -> None:
    from agents import Agent, ModelSettings, Runner, set_default_openai_api, set_default_openai_client, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    set_default_openai_api("chat_completions")
    set_default_openai_client(AsyncOpenAI(base_url=to.url, api_key=to.key))
    agent = Agent(
        name="helper", instructions="Help.", model=to.chat, model_settings=ModelSettings(**LIKELIEST, include_usage=True)
    )

    async def streamed() -> Any:
        run = Runner.run_streamed(agent, ASKED)
        async for _ in run.stream_events():
            pass
        return run.final_output

    assert asyncio.run(Runner.run(agent, ASKED)).final_output == asyncio.run(streamed())


def litellm(to: Server) -> None:
    from litellm import completion, embedding, text_completion

    where = {"api_base": to.url, "api_key": to.key}
    whole = completion(model=f"openai/{to.chat}", messages=CONVERSATION, **LIKELIEST, **where)
    parts = completion(
        model=f"openai/{to.chat}",
        messages=CONVERSATION,
        stream=True,
        stream_options={"include_usage": True},
        **LIKELIEST,
        **where,
    )
    assert whole.choices[0].message.content == "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    vllm = completion(model=f"hosted_vllm/{to.chat}", messages=CONVERSATION, **LIKELIEST, **where)
    assert vllm.choices[0].message.content == whole.choices[0].message.content
    assert text_completion(model=f"text-completion-openai/{to.chat}", prompt=ASKED, **LIKELIEST, **where).choices[0].text
    assert embedding(model=f"openai/{to.embeddings}", input=["a cat"], **where).data[0]["embedding"]


def instructor(to: Server) -> None:
    import instructor as library
    from openai import OpenAI

    client = library.from_openai(OpenAI(base_url=to.url, api_key=to.key), mode=library.Mode.JSON_SCHEMA)
    for seed in range(5):
        found = client.chat.completions.create(
            model=to.chat, response_model=Review, messages=CONVERSATION, max_tokens=400, max_retries=0, seed=seed
        )
        assert isinstance(found, Review)


def pydantic_ai(to: Server) -> None:
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel(to.chat, provider=OpenAIProvider(base_url=to.url, api_key=to.key))
    assert Agent(model, model_settings=LIKELIEST).run_sync(ASKED).output
    held = Agent(model, output_type=NativeOutput(Review), model_settings={"max_tokens": 400, "temperature": 0.0})
    assert isinstance(held.run_sync(ASKED).output, Review)


def dspy(to: Server) -> None:
    from dspy import LM

    assert LM(f"openai/{to.chat}", api_base=to.url, api_key=to.key, cache=False, **LIKELIEST)(ASKED)[0]


def smolagents(to: Server) -> None:
    from smolagents import OpenAIServerModel

    model = OpenAIServerModel(model_id=to.chat, api_base=to.url, api_key=to.key, max_tokens=20)
    assert model([{"role": "user", "content": [{"type": "text", "text": ASKED}]}]).content


CHECKS: tuple[tuple[str, str, Callable[[Server], None]], ...] = (
    ("langchain-openai", "langchain_openai", langchain),
    ("llama-index-llms-openai-like", "llama_index", llama_index),
    ("openai-agents", "agents", openai_agents),
    ("litellm", "litellm", litellm),
    ("instructor", "instructor", instructor),
    ("pydantic-ai-slim", "pydantic_ai", pydantic_ai),
    ("dspy", "dspy", dspy),
    ("smolagents", "smolagents", smolagents),
)
"""Distribution, module, check."""


def main(arguments: list[str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser("python -m tests.conformance.openai_clients", description=__doc__)
    parser.add_argument("url", help="like http://127.0.0.1:8000/v1")
    parser.add_argument("--chat", required=True, help="a model that generates and has a chat template")
    parser.add_argument("--embeddings", required=True, help="a model that takes text")
    parser.add_argument("--key", default="none")
    args = parser.parse_args(arguments)
    to, failed = Server(args.url, args.chat, args.embeddings, args.key), 0
    for distribution, module, check in CHECKS:
        if importlib.util.find_spec(module) is None:
            print(f"{distribution}: not installed here")
            continue
        try:
            check(to)
            print(f"{distribution} {version(distribution)}: passed")
        except Exception as error:  # every check is run, whatever the one before it came to
            failed += 1
            print(f"{distribution} {version(distribution)}: FAILED: {type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
