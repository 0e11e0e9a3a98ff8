"""A language model behind an Ollama server: one kept-alive HTTP client, answers streamed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

from daemons.engines.base import EngineError, EngineInfo, Prompt, Usage
from daemons.engines.servers import CONNECT_S, READ_S, in_a_line, is_loopback
from ipc.errors import Code

_KEEP_ALIVE = "30m"
"""How long the server keeps the model loaded after an answer: a pause in a conversation."""


class OllamaModel:
    """A LanguageModel. `load` must have returned before `generate`.

    Cached tokens are what the server reports, 0 where it (or the client library) does not. The server cuts a
    prompt that does not fit its context without a word.
    """

    def __init__(self, url: str, model: str, context_tokens: int = 4096) -> None:
        import httpx
        from ollama import AsyncClient

        self.info = EngineInfo("ollama", model, url[:64])
        self._url = url
        self._model = model
        self._context_tokens = context_tokens
        timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
        # A proxy of the environment would be asked for this machine's own address.
        self._client: Any = AsyncClient(url, timeout=timeout, trust_env=not is_loopback(url))

    async def load(self) -> None:
        """Checks that server and model are there. Raises EngineError(UPSTREAM_DOWN | MODEL_MISSING | ...)."""
        if not await self.present():
            raise self._missing()

    async def present(self) -> bool:
        """Whether the server has the model. Raises EngineError(UPSTREAM_DOWN | UPSTREAM_FAILED)."""
        with self._translated():
            names = {model.model for model in (await self._client.list()).models}
        return self._model in names or f"{self._model}:latest" in names

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        usage = None
        with self._translated():
            async with aclosing(self._parts(prompt)) as parts:
                async for part in parts:  # to its very end, or the connection could not be used again
                    if prompt.max_tokens and part.message.content:
                        yield part.message.content
                    if part.done:
                        usage = _usage(part, prompt)
        if usage is None:
            raise self._failed("it stopped in the middle of an answer")
        yield usage

    async def _parts(self, prompt: Prompt) -> AsyncGenerator[Any, None]:
        """What the server answers. It may give up a connection that was kept in the very moment in which the next
        question goes out on it: that one is asked again."""
        import httpx

        for again in (True, False):
            begun = False
            try:
                async with aclosing(await self._chat(prompt)) as parts:
                    async for part in parts:
                        begun = True
                        yield part
                return
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if begun or not again:
                    raise

    async def _chat(self, prompt: Prompt) -> Any:
        return await self._client.chat(
            self._model,
            [{"role": role, "content": content} for role, content in prompt.messages],
            stream=True,
            think=False,
            keep_alive=_KEEP_ALIVE,
            options={
                "num_predict": max(prompt.max_tokens, 1),  # 0 would mean without limit
                "temperature": prompt.temperature,
                "num_ctx": self._context_tokens,
            },
        )

    def rest(self, seconds: float) -> None:
        """Ollama cannot be held."""

    async def close(self) -> None:
        await self._client.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """What the client raises becomes an EngineError."""
        import httpx
        from ollama import ResponseError

        try:
            yield
        except (ConnectionError, httpx.ConnectError, httpx.ConnectTimeout):
            raise self._down() from None
        except ResponseError as error:
            if error.status_code == 404:
                raise self._missing() from None
            raise self._failed(str(error.error)) from None
        except (ValueError, TypeError, AttributeError) as error:  # not JSON, or of another kind
            raise self._another(str(error)) from None
        except httpx.HTTPError as error:
            raise self._failed(str(error) or type(error).__name__) from None

    def _down(self) -> EngineError:
        return EngineError(
            Code.UPSTREAM_DOWN, f"no Ollama at {self._url}: start it with `ollama serve` or set llm.ollama_url"
        )

    def _missing(self) -> EngineError:
        return EngineError(
            Code.MODEL_MISSING,
            f"Ollama at {self._url} lacks the model {self._model!r}: timmy models pull {self._model}",
        )

    def _failed(self, detail: str) -> EngineError:
        return EngineError(
            Code.UPSTREAM_FAILED,
            f"Ollama at {self._url} failed: {in_a_line(detail)}; ask again, or see what `ollama serve` says",
        )

    def _another(self, detail: str) -> EngineError:
        return EngineError(
            Code.UPSTREAM_FAILED,
            f"what answers at {self._url} is no Ollama ({in_a_line(detail)}): correct llm.ollama_url",
        )


async def has_model(url: str, model: str) -> bool | None:
    """Whether a running Ollama has the model, None where none runs. Raises EngineError(UPSTREAM_FAILED)."""
    if is_loopback(url) and not await _accepts(url):  # the usual case, without the cost of the client library
        return None
    server = OllamaModel(url, model)
    try:
        return await server.present()
    except EngineError as error:
        if error.code is Code.UPSTREAM_DOWN:
            return None
        raise
    finally:
        await server.close()


async def _accepts(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    await writer.wait_closed()
    return True


def _usage(part: Any, prompt: Prompt) -> Usage:
    return Usage(
        prompt_tokens=part.prompt_eval_count or 0,
        cached_tokens=getattr(part, "prompt_eval_cached_count", None) or 0,
        completion_tokens=(part.eval_count or 0) if prompt.max_tokens else 0,
        finish="length" if part.done_reason == "length" else "stop",
    )
