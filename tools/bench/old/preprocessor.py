"""The preprocessor: classifies and stores what was heard, recalls, lets the model answer, sends the answer on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

import msgspec

from daemons import config
from daemons.config import Llm
from daemons.engines.base import LanguageModel, Prompt, Usage
from daemons.engines.importance import Importance
from daemons.engines.llama import LlamaModel
from daemons.engines.minilm import MiniLm
from daemons.engines.ollama import OllamaModel, has_model
from tools.bench.old import MEMORIES, web
from tools.bench.old.replies import Done, Processed, Spoken, Text
from tools.bench.old.store import Store


class Preprocessor:
    """One conversation. The model runs in this process, which saves it the hop that it was away."""

    def __init__(self, setup: web.Setup) -> None:
        settings = config.load()
        self._keep_importance = settings.memory.keep_importance
        self._max_tokens = settings.dialog.max_answer_tokens
        self._persona = settings.dialog.persona.replace("{name}", settings.dialog.assistant_name)
        self._history: deque[tuple[str, str]] = deque(maxlen=settings.dialog.history_turns)
        self._embedder = MiniLm(settings.memory.embedder, settings.memory.threads)
        self._classifier = Importance(self._embedder)
        self._store = Store(Path(setup.folder) / "memory.db", self._embedder.dimensions)
        self._loop = web.EngineLoop()
        self._model = self._loop.run(_open_model(settings.llm))
        self._next = setup.peers["tts"]
        self._caller = web.Caller(setup.pooled)
        self.engines = [web.described(info) for info in (self._embedder.info, self._classifier.info, self._model.info)]
        self.routes: Mapping[str, web.Route] = {"/turn": self._turn, "/remember": self._remember}

    def close(self) -> None:
        self._caller.close()
        self._loop.run(self._model.close())
        self._loop.close()
        self._store.close()

    def _remember(self, request: web.Request) -> Done:
        """Keeps a text in any case."""
        text = msgspec.json.decode(request.body, type=Text).text
        self._store.add(text, self._classifier.importance(text), True, self._embedder.embed([text])[0])
        return Done()

    def _turn(self, request: web.Request) -> Processed:
        heard = msgspec.json.decode(request.body, type=Text).text
        importance = self._classifier.importance(heard)
        classified_ns = time.monotonic_ns()
        vector = self._embedder.embed([heard])[0]
        self._store.add(heard, importance, importance >= self._keep_importance, vector)
        stored_ns = time.monotonic_ns()
        memories = self._store.nearest(vector, MEMORIES)
        recalled_ns = time.monotonic_ns()
        said, usage = self._loop.run(self._answer(memories, heard))
        self._history.append((heard, said))
        answered_ns = time.monotonic_ns()
        body = msgspec.json.encode(Text(said))
        sent_ns = time.monotonic_ns()
        words = any(char.isalnum() for char in said)
        spoken = self._caller.post(f"{self._next}/speak", request.rid, body, Spoken) if words else None
        return Processed(
            received_ns=request.received_ns,
            classified_ns=classified_ns,
            stored_ns=stored_ns,
            recalled_ns=recalled_ns,
            answered_ns=answered_ns,
            sent_ns=sent_ns,
            said=said,
            memories=memories,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            spoken=spoken,
        )

    async def _answer(self, memories: list[str], heard: str) -> tuple[str, Usage]:
        """All the model has to say, and what it read."""
        head = "\n".join(["What you remember:", *(f"- {memory}" for memory in memories)])
        messages = [("system", f"{head}\n\n{self._persona}")]
        for asked, answered in self._history:
            messages += [("user", asked), ("assistant", answered)]
        said, usage = "", Usage(0, 0, 0, "stop")
        prompt = Prompt([*messages, ("user", heard)], self._max_tokens)
        async with aclosing(self._model.generate(prompt)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Usage):
                    usage = piece
                else:
                    said += piece
        return said.strip(), usage


async def _open_model(settings: Llm) -> LanguageModel:
    """The engine that the llm daemon would choose."""
    engine = settings.engine
    if engine == "auto":
        engine = "ollama" if await has_model(settings.ollama_url, settings.ollama_model) else "llama"
    if engine == "llama":
        return LlamaModel(settings.model, settings.device, settings.threads, settings.context_tokens)
    model = OllamaModel(settings.ollama_url, settings.ollama_model, settings.context_tokens)
    await model.load()
    return model


if __name__ == "__main__":
    web.main(Preprocessor)
