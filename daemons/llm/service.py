"""The llm daemon: one engine, one request at a time, a stream of tokens for each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

from daemons.config import Config, openai_key
from daemons.engines.base import EngineError, EngineInfo, LanguageModel, Prompt, Usage
from daemons.engines.servers import KeyRefused
from daemons.journald import about
from daemons.llm import core
from daemons.llm.core import Answer, Line, Ticket
from ipc.call import Call, Handler
from ipc.errors import CallCancelled, Code, ConfigError, TimmyError
from ipc.marks import NO_MARKS, Marker, Stage
from ipc.messages import Body, Generate, Generated, Rest, Result, Token

log = logging.getLogger(__name__)

ELSEWHERE = frozenset({"ollama", "openai"})
"""Engines that are servers with a life of their own."""


class _Place:
    """A request in the line."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.called = asyncio.Event()


class LlmService:
    """Meets daemons.runtime.Service. `model` replaces the configured engine."""

    def __init__(self, config: Config, model: LanguageModel | None = None, *, marks: Marker = NO_MARKS) -> None:
        self._settings = config.llm
        self._marks = marks
        self._given = model
        self._line = Line()
        self._places: dict[Ticket, _Place] = {}
        self._moved = asyncio.Event()
        self.info = EngineInfo(self._settings.engine, "", "")
        self.trouble = ""

    def handlers(self) -> Mapping[type[Body], Handler]:
        return {Generate: self._generate}

    async def load(self) -> None:
        """Opens the engine and asks it what every model knows, which also warms it up. Raises ConfigError for a key
        that a server refuses: a start that is tried again and again would have it refused as often."""
        question = Prompt([("user", core.CHECK_QUESTION)], core.CHECK_TOKENS)
        try:
            self._model = self._given or await self._open()
            self.info = self._model.info
            said = "".join([item async for item in self._model.generate(question) if isinstance(item, str)])
        except KeyRefused as error:
            raise ConfigError(str(error)) from None
        if not core.passes_check(said):
            raise EngineError(
                Code.MODEL_DAMAGED,
                f"model {self.info.model!r} says {said!r} to {core.CHECK_QUESTION!r}: "
                "timmy models verify, or choose another",
            )

    live: frozenset[str] = frozenset()

    def adopt(self, config: Config) -> None:
        """A model is opened once, with all its settings."""

    async def beat(self) -> None:
        """With the next piece of an answer that is under way, or its end. A server elsewhere is given its own time."""
        if self._line.head is not None and self.info.engine not in ELSEWHERE:
            self._moved.clear()
            await self._moved.wait()

    async def close(self) -> None:
        if hasattr(self, "_model"):
            await self._model.close()

    # --- engine ---

    async def _open(self) -> LanguageModel:
        from daemons.engines.llama import LlamaModel

        settings = self._settings
        engine, reason = core.choose(settings.engine, settings.ollama_model, await self._ollama_has_model())
        log.info("engine %s: %s", engine, reason)
        if engine in ELSEWHERE:
            return await self._elsewhere(engine)
        s = settings
        return await asyncio.to_thread(LlamaModel, s.model, s.device, s.threads, s.context_tokens, s.prefix_cache)

    async def _elsewhere(self, engine: str) -> LanguageModel:
        from daemons.engines.ollama import OllamaModel
        from daemons.engines.openai import OpenAiModel

        settings = self._settings
        model: OllamaModel | OpenAiModel
        if engine == "ollama":
            model = OllamaModel(settings.ollama_url, settings.ollama_model, settings.context_tokens)
        else:
            model = OpenAiModel(settings.openai_url, settings.openai_model, openai_key(settings.openai_key_file))
        try:
            await model.load()
        except EngineError:
            await model.close()
            raise
        return model

    async def _ollama_has_model(self) -> bool | None:
        from daemons.engines.ollama import has_model

        if self._settings.engine != "auto":
            return None
        try:
            return await has_model(self._settings.ollama_url, self._settings.ollama_model)
        except EngineError as error:
            log.warning("%s", error)
            return None

    # --- requests ---

    async def _generate(self, call: Call) -> Result:
        body: Generate = call.body
        ticket = Ticket(prefill=body.max_tokens == 0)
        try:
            async with self._turn(ticket):
                heed = asyncio.get_running_loop().create_task(self._heed(call))
                try:
                    return await self._answer(call, body)
                finally:
                    heed.cancel()
        except asyncio.CancelledError:
            if ticket.yielding:
                raise CallCancelled("gave way to what came later") from None
            raise
        except EngineError as error:
            raise self._noted(error) from None

    async def _heed(self, call: Call) -> None:
        with suppress(TimmyError):  # it ends the answer, too
            async for item, _ in call:
                if isinstance(item, Rest):
                    self._model.rest(item.ms / 1000)

    @asynccontextmanager
    async def _turn(self, ticket: Ticket) -> AsyncIterator[None]:
        """Waits for the model and holds it."""
        for other in self._line.join(ticket):
            self._places[other].task.cancel()
        place = self._places[ticket] = _Place()
        self._call_head()
        try:
            await place.called.wait()
            yield
        finally:
            del self._places[ticket]
            self._line.leave(ticket)
            self._moved.set()
            self._call_head()

    def _call_head(self) -> None:
        if self._line.head is not None:
            self._places[self._line.head].called.set()

    async def _answer(self, call: Call, body: Generate) -> Generated:
        answer = Answer(body.max_tokens)
        read_ns = first_token_ns = 0
        usage = None
        messages = [(m.role, m.content if m.role == "system" else core.disarmed(m.content)) for m in body.messages]
        prompt = Prompt(messages, body.max_tokens, body.temperature)
        async with aclosing(self._model.generate(prompt)) as stream:
            async for item in stream:
                t_ns = time.monotonic_ns()
                self._moved.set()
                read_ns = read_ns or t_ns
                if isinstance(item, Usage):
                    usage = item
                    self._marks.mark(call.rid, Stage.PROMPT_TOKENS, read_ns, usage.prompt_tokens)
                    self._marks.mark(call.rid, Stage.CACHED_TOKENS, read_ns, usage.cached_tokens)
                elif text := answer.add(item):
                    if not first_token_ns:
                        first_token_ns = t_ns
                        self._marks.mark(call.rid, Stage.FIRST_TOKEN, t_ns)
                    await call.send(Token(text=text, t_ns=t_ns))
                if answer.full:
                    break
        self.trouble = ""
        usage = usage or Usage(0, 0, answer.tokens, "length")
        log.info(
            "prompt of %d tokens, %d of them cached; answer of %d",
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
            extra=about(rid=call.rid),
        )
        if body.max_tokens:
            answer.check()
        return Generated(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            finish=usage.finish,
            received_ns=call.received_ns,
            first_token_ns=first_token_ns,
        )

    def _noted(self, error: EngineError) -> EngineError:
        """`error` as the caller shall read it. What is not the caller's fault is shown by `timmy status`."""
        if error.code is Code.UPSTREAM_DOWN and self._settings.engine == "auto":
            error = EngineError(error.code, f"{error}, or restart the llm daemon to use the embedded model")
        if error.code is not Code.BAD_REQUEST:
            self.trouble = str(error)
            log.warning("%s", error)
        return error
