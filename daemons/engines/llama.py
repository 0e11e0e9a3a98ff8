"""The embedded language model: llama.cpp in this process, by xllamacpp."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from daemons.catalogue import resolve
from daemons.config import Device
from daemons.engines.base import EngineError, EngineInfo, Prompt, Usage
from ipc.errors import Code, ConfigError

_CPU_BATCH = 16
"""Prompt tokens between two looks at whether the answer is still wanted: about 75 ms of two cores. Larger ones
read up to a fifth faster and stop later."""

_GPU_BATCH = 512

_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "2000",  # see docs/adr/005-openmp.md
    "GGML_NO_BACKTRACE": "1",  # else a failing assertion starts a debugger
}

_QUIET = -1  # below the verbosity of errors: what matters is raised

_Chunk = dict[str, Any]


class LlamaModel:
    """A LanguageModel. Made in 0.5 s and more. Raises EngineError(MODEL_MISSING | MODEL_DAMAGED | ENGINE_FAILED).

    Keeps the last prompt's state, unless `prefix_cache` is False: the next one is read from where it differs. A
    reasoning model is told not to think aloud; what it thinks nevertheless is left out.
    """

    def __init__(
        self,
        model: str,
        device: Device = "auto",
        threads: int = 0,
        context_tokens: int = 4096,
        prefix_cache: bool = True,
    ) -> None:
        path = resolve("llm", model, sums=True)
        library = _library()
        gpu = _gpu(library, device)
        params = library.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context_tokens
        params.n_batch = params.n_ubatch = _GPU_BATCH if gpu else _CPU_BATCH
        params.n_gpu_layers = -1 if gpu else 0
        if not gpu:  # slower there than separate steps (docs/adr/012-two-cores.md)
            params.flash_attn_type = library.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if threads:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_parallel = 1
        params.cache_ram_mib = 0  # earlier prompts are not asked again
        params.enable_reasoning = 0
        params.verbosity = _QUIET
        self._server = _start(library, params, path)
        self.info = EngineInfo("llama.cpp", model, gpu or "cpu")
        self._context_tokens = context_tokens
        self._prefix_cache = prefix_cache
        self._worker = ThreadPoolExecutor(1, "llama")
        self._closing = threading.Event()
        self._rest = threading.Condition()
        self._rest_ends = 0.0

    async def generate(self, prompt: Prompt) -> AsyncGenerator[str | Usage, None]:
        chunks: asyncio.Queue[_Chunk | Exception | None] = asyncio.Queue()
        stop = threading.Event()
        self.rest(0)
        loop = asyncio.get_running_loop()
        self._worker.submit(
            self._work,
            _body(prompt, self._prefix_cache),
            stop,
            lambda item: loop.call_soon_threadsafe(chunks.put_nowait, item),
        )
        usage = None
        finish = "stop"
        try:
            while (chunk := await chunks.get()) is not None:
                text, finish = _text(self._checked(chunk), finish)
                if text and prompt.max_tokens:  # asked for no token, the server gives one
                    yield text
                usage = _usage(chunk, prompt, finish) or usage
        finally:
            stop.set()
            self.rest(0)
        if usage is None:
            raise EngineError(Code.ENGINE_FAILED, "llama.cpp ended without an answer: restart the llm daemon")
        yield usage

    def rest(self, seconds: float) -> None:
        with self._rest:
            self._rest_ends = time.monotonic() + seconds
            self._rest.notify_all()

    def _stand_still(self) -> None:
        """Until the rest is over; its end may be moved meanwhile."""
        with self._rest:
            while (left_s := self._rest_ends - time.monotonic()) > 0:
                self._rest.wait(left_s)

    def _work(self, body: _Chunk, stop: threading.Event, give: Callable[[_Chunk | Exception | None], object]) -> None:
        """In the worker thread. The library calls back after every token and every batch of the prompt."""

        def on_chunk(chunk: _Chunk) -> bool:
            if not stop.is_set():
                give(chunk)
                self._stand_still()
            return stop.is_set() or self._closing.is_set()

        try:
            if not stop.is_set():
                self._server.handle_chat_completions(body, on_chunk)
        except Exception as error:  # reported to the one who asked
            give(error)
        give(None)

    def _checked(self, chunk: _Chunk | Exception) -> _Chunk:
        """Raises EngineError for what is no part of an answer."""
        if isinstance(chunk, ValueError):
            raise EngineError(Code.BAD_REQUEST, f"the model cannot take this prompt: {chunk}")
        if isinstance(chunk, Exception):
            raise EngineError(Code.ENGINE_FAILED, f"llama.cpp failed: {chunk}")
        if error := chunk.get("error"):
            if error.get("type") == "exceed_context_size_error":
                raise EngineError(
                    Code.BAD_REQUEST,
                    f"the prompt has {error.get('n_prompt_tokens')} tokens, the model's context "
                    f"{self._context_tokens}: shorten it or raise llm.context_tokens",
                )
            code = Code.BAD_REQUEST if error.get("code") == 400 else Code.ENGINE_FAILED
            raise EngineError(code, f"llama.cpp: {error.get('message')}")
        return chunk

    async def close(self) -> None:
        self._closing.set()
        self.rest(0)
        await asyncio.to_thread(self._worker.shutdown)
        self._server = None


def _body(prompt: Prompt, prefix_cache: bool) -> _Chunk:
    return {
        "messages": [{"role": role, "content": content} for role, content in prompt.messages],
        "max_tokens": prompt.max_tokens,
        "temperature": prompt.temperature,
        "cache_prompt": prefix_cache,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # calls back while it reads, so that it can be stopped
    }


def _text(chunk: _Chunk, finish: str) -> tuple[str, str]:
    """The text in a chunk, and why the answer ended as far as is known."""
    for choice in chunk.get("choices", ()):
        return choice["delta"].get("content") or "", choice.get("finish_reason") or finish
    return "", finish


def _usage(chunk: _Chunk | Exception, prompt: Prompt, finish: str) -> Usage | None:
    """The counts, in the last chunk."""
    if isinstance(chunk, Exception) or not (counts := chunk.get("usage")):
        return None
    return Usage(
        prompt_tokens=counts["prompt_tokens"],
        cached_tokens=counts["prompt_tokens_details"]["cached_tokens"],
        completion_tokens=counts["completion_tokens"] if prompt.max_tokens else 0,
        finish="length" if finish == "length" else "stop",
    )


def _library() -> Any:
    """xllamacpp. Its OpenMP reads the environment once, when it is loaded."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import xllamacpp
    except ImportError as error:
        raise EngineError(
            Code.ENGINE_FAILED, f"xllamacpp cannot be loaded ({error}): apt install libgomp1, or run make again"
        ) from None
    return xllamacpp


def _gpu(library: Any, device: Device) -> str:
    """What to call the GPU, empty to stay on the CPU."""
    if device == "cpu":
        return ""
    kind = library.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_GPU
    found = [gpu for gpu in library.get_device_info() if gpu["type"] == kind]
    if found:
        return f"{found[0]['name']} {found[0]['description']}"[:64]
    if device == "cuda":
        raise ConfigError(
            "no CUDA device for llama.cpp (it needs a driver and xllamacpp's CUDA wheel): "
            "set llm.device to 'auto' or 'cpu'"
        )
    return ""


def _start(library: Any, params: Any, path: Path) -> Any:
    """The server. It insists on listening; it does so on a socket that nobody can reach, and soon not even find."""
    with tempfile.TemporaryDirectory(prefix="timmy-llm-") as folder:
        handle = os.open(folder, os.O_PATH)
        try:
            # By the handle the path is short enough for a socket, wherever the folder lies.
            params.hostnames = [f"/proc/self/fd/{handle}/http.sock"]
            return library.Server(params)
        except RuntimeError:
            raise EngineError(
                Code.MODEL_DAMAGED,
                f"llama.cpp cannot load {path}: it is damaged, of a kind it does not know, or too large for this "
                "machine; try timmy models verify",
            ) from None
        finally:
            os.close(handle)
