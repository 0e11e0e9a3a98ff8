"""A language model behind a server that speaks OpenAI's chat completions: vLLM, llama-server, LM Studio and others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from daemons.engines.base import EngineError, EngineInfo, Prompt, Usage
from daemons.engines.servers import CONNECT_S, READ_S, KeyRefused, in_a_line, is_loopback
from ipc.errors import Code

if TYPE_CHECKING:
    import httpx

_FORBIDDEN = (401, 403)
_NOT_FOUND = 404


class OpenAiModel:
    """A LanguageModel. `load` must have returned before `generate`.

    `url` ends where its paths begin, mostly in /v1. `model` empty: the only one that the server has. Tokens that the
    server does not count are 0. What a model thinks aloud, and the server tells apart, is left out.
    """

    def __init__(self, url: str, model: str = "", key: str = "") -> None:
        import httpx

        self.info = EngineInfo("openai", model, url[:64])
        self._url = url.rstrip("/")
        self._has_key = bool(key)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # A proxy of the environment would be asked for this machine's own address.
        self._client = httpx.AsyncClient(
            headers=headers, timeout=httpx.Timeout(READ_S, connect=CONNECT_S), trust_env=not is_loopback(url)
        )

    async def load(self) -> None:
        """Checks that server and model are there. Raises KeyRefused, EngineError(UPSTREAM_DOWN | ...)."""
        with self._translated():
            answer = await self._client.get(f"{self._url}/models")
            self._check(answer.status_code, answer.text, missing=self._another("404"))
            names = [str(each["id"]) for each in answer.json()["data"]]
        known = ", ".join(names[:5]) or "none"
        if not self.info.model and len(names) != 1:
            raise EngineError(
                Code.MODEL_MISSING, f"the server at {self._url} has these models: {known}; set llm.openai_model to one"
            )
        if self.info.model and self.info.model not in names:
            raise self._missing(f"it has {known}")
        self.info = EngineInfo("openai", self.info.model or names[0], self.info.device)

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        answer = _Answer()
        with self._translated():
            body = _body(self.info.model, prompt)
            async with self._answering(body) as response:
                if response.is_error:
                    await response.aread()
                    self._check(response.status_code, response.text, missing=self._missing("it was there before"))
                async for line in response.aiter_lines():  # to its very end, or the connection could not be used again
                    piece = self._taken(answer, line)
                    if piece and prompt.max_tokens:
                        yield piece
        if not answer.finish:
            raise self._failed("it stopped in the middle of an answer")
        yield answer.usage(prompt)

    def rest(self, seconds: float) -> None:
        """Such a server cannot be held."""

    async def close(self) -> None:
        await self._client.aclose()

    @contextlib.asynccontextmanager
    async def _answering(self, body: Mapping[str, Any]) -> AsyncIterator[httpx.Response]:
        """The answer, as far as its head. A server may give up a connection that was kept in the very moment in which
        the next question goes out on it: that one is asked again."""
        import httpx

        try:
            response = await self._client.send(self._asked(body), stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            response = await self._client.send(self._asked(body), stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    def _asked(self, body: Mapping[str, Any]) -> httpx.Request:
        return self._client.build_request("POST", f"{self._url}/chat/completions", json=body)

    def _taken(self, answer: _Answer, line: str) -> str:
        """The text in a line of the stream. Raises EngineError for an error in it."""
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if not data or data == "[DONE]":
            return ""
        part = json.loads(data)
        if error := part.get("error"):
            raise self._failed(_reason(error))
        return answer.take(part)

    # --- what goes wrong ---

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """What the client raises becomes an EngineError."""
        import httpx

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise EngineError(
                Code.UPSTREAM_DOWN, f"no server at {self._url}: start it, or set llm.openai_url"
            ) from None
        except httpx.HTTPError as error:
            raise self._failed(str(error) or type(error).__name__) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # not JSON, or of another kind
            raise self._another(str(error)) from None

    def _check(self, status: int, text: str, missing: EngineError) -> None:
        """Raises EngineError for an HTTP status that is one."""
        if status in _FORBIDDEN:
            refused, do = ("refuses the key", "correct it in") if self._has_key else ("wants a key", "put it into")
            raise KeyRefused(
                Code.UPSTREAM_FAILED,
                f"the server at {self._url} {refused} ({status}): {do} the file that llm.openai_key_file names, "
                "or the credential openai_key",
            )
        if status == _NOT_FOUND:
            raise missing
        if status >= 400:
            raise self._failed(_reason_in(text) or f"HTTP {status}")

    def _missing(self, detail: str) -> EngineError:
        return EngineError(
            Code.MODEL_MISSING,
            f"the server at {self._url} lacks the model {self.info.model!r} ({detail}): set llm.openai_model",
        )

    def _failed(self, detail: str) -> EngineError:
        return EngineError(
            Code.UPSTREAM_FAILED, f"the server at {self._url} failed: {in_a_line(detail)}; ask again, or see its log"
        )

    def _another(self, detail: str) -> EngineError:
        return EngineError(
            Code.UPSTREAM_FAILED,
            f"what answers at {self._url} does not speak OpenAI's protocol ({in_a_line(detail)}): "
            "correct llm.openai_url, which mostly ends in /v1",
        )


class _Answer:
    """What the parts of a stream tell, put together."""

    def __init__(self) -> None:
        self.finish = ""
        self._pieces = 0
        self._counts: Mapping[str, Any] = {}

    def take(self, part: Mapping[str, Any]) -> str:
        self._counts = part.get("usage") or self._counts
        if not part.get("choices"):
            return ""
        choice = part["choices"][0]
        self.finish = choice.get("finish_reason") or self.finish
        text = choice["delta"].get("content") or ""
        self._pieces += bool(text)
        return str(text)

    def usage(self, prompt: Prompt) -> Usage:
        details = self._counts.get("prompt_tokens_details") or {}
        return Usage(
            prompt_tokens=self._counts.get("prompt_tokens") or 0,
            cached_tokens=details.get("cached_tokens") or 0,
            completion_tokens=(self._counts.get("completion_tokens") or self._pieces) if prompt.max_tokens else 0,
            finish="length" if self.finish == "length" else "stop",
        )


def _body(model: str, prompt: Prompt) -> dict[str, Any]:
    return {
        "model": model,
        "messages": [{"role": role, "content": content} for role, content in prompt.messages],
        "max_tokens": max(prompt.max_tokens, 1),  # 0 is refused by some, and without limit for others
        "temperature": prompt.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _reason_in(text: str) -> str:
    """What an answer with an error status says."""
    try:
        said = json.loads(text)
    except ValueError:
        return ""
    return _reason(said.get("error") or said.get("message") or "") if isinstance(said, dict) else ""


def _reason(error: Any) -> str:
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)
