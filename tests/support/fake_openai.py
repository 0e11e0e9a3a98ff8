"""A real HTTP server that speaks OpenAI's chat completions, and can be told how to fail."""

from __future__ import annotations

import json
from typing import Any

from tests.support.fake_ollama import LINES, FakeOllama, Handler


class FakeOpenAi(FakeOllama):
    """As FakeOllama; its API begins at `api`. `key`: what a client must show. `counts`: whether it counts tokens."""

    def __init__(self, models: tuple[str, ...] = ("qwen3-8b",), pieces: tuple[str, ...] = LINES, key: str = "") -> None:
        super().__init__(models, pieces)
        self.key = key
        self.counts = True

    @property
    def handler(self) -> type[Handler]:
        return _Handler

    @property
    def api(self) -> str:
        return f"{self.url}/v1"


class _Handler(Handler):
    server_state: FakeOpenAi

    def do_GET(self) -> None:
        if self._let_in() and not self._broken():
            models = [{"id": name, "object": "model"} for name in self.server_state.models]
            self._whole(200, json.dumps({"object": "list", "data": models}))

    def do_POST(self) -> None:
        if self._let_in():
            super().do_POST()

    def _let_in(self) -> bool:
        """The path and the key are right; else it has answered that they are not."""
        if not self.path.startswith("/v1/"):
            self._whole(404, '{"detail": "Not Found"}')
        elif self.server_state.key and self.headers["Authorization"] != f"Bearer {self.server_state.key}":
            self._whole(401, '{"error": {"message": "Incorrect API key provided"}}')
        else:
            return True
        return False

    def _chat(self, body: dict[str, Any]) -> None:
        body["options"] = {"num_predict": body["max_tokens"]}
        super()._chat(body)

    def _message(self, piece: str) -> None:
        self._line({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        self.server_state.written += 1

    def _last(self, pieces: int, reason: str) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}

    def _line(self, value: dict[str, Any]) -> None:
        """One event of the stream; behind the last one the counts, and the mark of the end."""
        self._chunk(b": a comment\n\ndata: " + json.dumps(value).encode() + b"\n\n")
        if value.get("choices", [{}])[0].get("finish_reason"):
            if self.server_state.counts:
                counts = {"prompt_tokens": 21, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}
                self._chunk(b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n")
            self._chunk(b"data: [DONE]\n\n")
