"""The embedded language model with its real weights."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemons import catalogue
from daemons.engines import llama
from daemons.engines.base import EngineError, Prompt, Usage
from daemons.engines.llama import LlamaModel
from daemons.llm.core import disarmed
from ipc.errors import Code, ConfigError
from tests.support.eventually import eventually

pytestmark = pytest.mark.models

RULES = ("system", "You are a helpful assistant. Answer in one short sentence.")
FRANCE = ("user", "What is the capital of France?")
LONG = ("user", "Count the words of this: " + "and rain fell on the old town " * 40)


class Counting:
    """Between engine and library: counts what the library says, and when it is done."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.chunks = 0
        self.prompts_ended = 0
        self.reading = threading.Event()
        """A part of the prompt has been read."""

    def handle_chat_completions(self, body: dict[str, Any], callback: Callable[[Any], bool]) -> None:
        def counted(chunk: Any) -> bool:
            self.chunks += 1
            if chunk.get("prompt_progress", {}).get("processed"):
                self.reading.set()
            return callback(chunk)

        self._server.handle_chat_completions(body, counted)
        self.prompts_ended += 1


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaModel]:
    made = LlamaModel("smollm2-135m", "cpu", 2)
    yield made
    asyncio.run(made.close())


@pytest.fixture
def counting(model: LlamaModel) -> Iterator[Counting]:
    library = model._server
    model._server = Counting(library)
    yield model._server
    model._server = library


def run(task: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await task

    asyncio.run(bounded())


async def ask(model: LlamaModel, prompt: Prompt) -> tuple[list[str], Usage]:
    items = [item async for item in model.generate(prompt)]
    usage = items.pop()
    assert isinstance(usage, Usage)
    return [item for item in items if isinstance(item, str)], usage


async def idle(model: LlamaModel) -> None:
    """Returns when the worker thread has nothing to do."""
    await asyncio.wrap_future(model._worker.submit(lambda: None))


def test_an_answer_comes_in_pieces_with_its_counts(model: LlamaModel) -> None:
    async def check() -> None:
        pieces, usage = await ask(model, Prompt([RULES, FRANCE], 30))
        assert "Paris" in "".join(pieces)
        assert len(pieces) > 3
        assert usage.finish == "stop"
        assert len(pieces) <= usage.completion_tokens <= 30
        assert usage.prompt_tokens > 20
        assert model.info.device == "cpu"

    run(check())


def test_without_a_cache_a_prompt_is_read_anew() -> None:
    async def check() -> None:
        forgetful = LlamaModel("smollm2-135m", "cpu", 2, 1024, prefix_cache=False)
        try:
            cached = [(await ask(forgetful, Prompt([RULES, FRANCE], 4)))[1].cached_tokens for _ in range(2)]
        finally:
            await forgetful.close()
        assert cached == [0, 0]

    run(check())


def test_the_answer_is_the_same_each_time_and_cut_at_the_limit(model: LlamaModel) -> None:
    async def check() -> None:
        first, usage = await ask(model, Prompt([RULES, FRANCE], 4))
        again, _ = await ask(model, Prompt([RULES, FRANCE], 4))
        assert first == again
        assert (usage.completion_tokens, usage.finish) == (4, "length")

    run(check())


def test_a_prompt_that_goes_on_is_read_from_where_it_differs(model: LlamaModel) -> None:
    async def check() -> None:
        said, before = await ask(model, Prompt([RULES, FRANCE], 30))
        follow_up = Prompt([RULES, FRANCE, ("assistant", "".join(said)), ("user", "And of Italy?")], 30)
        _, after = await ask(model, follow_up)
        assert before.prompt_tokens <= after.cached_tokens < after.prompt_tokens

    run(check())


def test_no_token_reads_the_prompt_only(model: LlamaModel) -> None:
    async def check() -> None:
        prompt = [("system", "You are a pirate."), FRANCE]
        pieces, usage = await ask(model, Prompt(prompt, 0))
        assert (pieces, usage.completion_tokens) == ([], 0)
        _, usage = await ask(model, Prompt(prompt, 1))
        assert usage.cached_tokens == usage.prompt_tokens - 1, "the last one is read again for its answer"

    run(check())


def test_closing_stops_the_writing(model: LlamaModel, counting: Counting) -> None:
    async def check() -> None:
        answer = model.generate(Prompt([("user", "Tell me a very long story.")], 2000))
        for _ in range(3):
            assert isinstance(await anext(answer), str)
        await answer.aclose()
        await idle(model)
        assert counting.prompts_ended == 1
        assert counting.chunks < 1000, "nobody waited for 2,000"

    run(check())


def test_a_model_at_rest_writes_nothing_until_it_is_told_to_go_on(model: LlamaModel, counting: Counting) -> None:
    async def check() -> None:
        answer = model.generate(Prompt([("user", "Tell me a very long story.")], 200))
        assert isinstance(await anext(answer), str)
        model.rest(60)
        await asyncio.sleep(0.5)  # the token that was begun
        given = counting.chunks
        await asyncio.sleep(0.5)
        assert counting.chunks == given
        model.rest(0)
        await eventually(lambda: counting.chunks > given + 5)
        await answer.aclose()
        await idle(model)

    run(check())


def test_a_rest_ends_with_its_time_and_with_its_answer(model: LlamaModel, counting: Counting) -> None:
    async def check() -> None:
        answer = model.generate(Prompt([("user", "Tell me a very long story.")], 200))
        assert isinstance(await anext(answer), str)
        model.rest(3600)
        model.rest(0.1)
        await eventually(lambda: counting.chunks > 10)
        model.rest(3600)
        await answer.aclose()
        await idle(model)
        model.rest(3600)  # of an answer that is over
        assert (await ask(model, Prompt([("user", "What is the capital of France?")], 5)))[0]

    run(check())


def test_cancelling_stops_the_reading(model: LlamaModel, counting: Counting) -> None:
    async def check() -> None:
        answer = model.generate(Prompt([LONG], 10))
        reading = asyncio.ensure_future(anext(answer))
        assert await asyncio.to_thread(counting.reading.wait, 60)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await idle(model)
        assert counting.prompts_ended == 1
        _, usage = await ask(model, Prompt([LONG], 1))
        assert 0 < usage.cached_tokens < usage.prompt_tokens // 2, "what was read is kept, the rest was not read"

    run(check())


def test_one_that_was_given_up_while_it_waited_is_never_begun(model: LlamaModel, counting: Counting) -> None:
    async def check() -> None:
        first = model.generate(Prompt([FRANCE], 10))
        await anext(first)
        second = model.generate(Prompt([LONG], 10))
        waiting = asyncio.ensure_future(anext(second))
        await asyncio.sleep(0)
        waiting.cancel()
        assert [item async for item in first]
        await idle(model)
        assert counting.prompts_ended == 1

    run(check())


@pytest.mark.parametrize(
    ("messages", "detail"),
    [
        ([("user", "word " * 5000)], "the prompt has 50.. tokens, the model's context 4096: .* llm.context_tokens"),
        ([FRANCE, ("assistant", "a"), ("assistant", "b")], "cannot take this prompt: .*assistant"),
    ],
)
def test_a_prompt_that_cannot_be(model: LlamaModel, messages: list[tuple[str, str]], detail: str) -> None:
    async def check() -> None:
        with pytest.raises(EngineError, match=detail) as caught:
            await ask(model, Prompt(messages, 10))
        assert caught.value.code is Code.BAD_REQUEST
        assert "Paris" in "".join((await ask(model, Prompt([RULES, FRANCE], 20)))[0])

    run(check())


class Broken:
    """A library in trouble."""

    def __init__(self, answer: dict[str, Any] | Exception | None) -> None:
        self._answer = answer

    def handle_chat_completions(self, body: dict[str, Any], callback: Callable[[Any], bool]) -> None:
        if isinstance(self._answer, Exception):
            raise self._answer
        if self._answer is not None:
            callback(self._answer)


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (RuntimeError("out of memory"), "llama.cpp failed: out of memory"),
        ({"error": {"code": 500, "message": "Compute error."}}, "llama.cpp: Compute error."),
        (None, "ended without an answer"),
    ],
)
def test_a_library_in_trouble(
    model: LlamaModel, counting: Counting, answer: dict[str, Any] | Exception | None, detail: str
) -> None:
    model._server = Broken(answer)

    async def check() -> None:
        with pytest.raises(EngineError, match=detail) as caught:
            await ask(model, Prompt([FRANCE], 10))
        assert caught.value.code is Code.ENGINE_FAILED

    run(check())


def test_closing_the_engine_ends_an_answer_in_the_middle() -> None:
    async def check() -> None:
        model = LlamaModel("smollm2-135m", "cpu", 2, 1024)
        answer = model.generate(Prompt([("user", "Tell me a very long story.")], 900))
        await anext(answer)
        await model.close()
        with pytest.raises(EngineError, match="without an answer"):
            [item async for item in answer]

    run(check())


def test_nothing_listens_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """In a process of its own: the library logs to its standard error, and `$TMPDIR` may be long."""
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from daemons.engines.llama import LlamaModel\n"
        "model = LlamaModel('smollm2-135m', 'auto', 2, 512)\n"
        "files = [os.readlink(f) for f in Path('/proc/self/fd').iterdir() if f.is_symlink()]\n"
        "inodes = [file.split('[')[-1].strip(']') for file in files if file.startswith('socket:')]\n"
        "lines = [line.split() for name in ('tcp', 'tcp6') for line in Path(f'/proc/net/{name}').open()]\n"
        "assert inodes\n"
        "print([line for line in lines if line[9] in inodes], os.listdir(os.environ['TMPDIR']))\n"
    )
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[] []\n", "")


@pytest.mark.parametrize("size", [0, 3, 100, 5000, 2_000_000, -1])
def test_a_file_cut_short(tmp_path: Path, size: int) -> None:
    whole = catalogue.resolve("llm", "smollm2-135m").read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[:size])
    with pytest.raises(EngineError, match=r"llama.cpp cannot load .*cut.gguf: it is damaged") as caught:
        LlamaModel(str(cut), "cpu", 2, 512)
    assert caught.value.code is Code.MODEL_DAMAGED


def test_a_file_of_something_else(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF" + bytes(range(256)) * 1000)
    with pytest.raises(EngineError, match="damaged") as caught:
        LlamaModel(str(other), "cpu", 2, 512)
    assert caught.value.code is Code.MODEL_DAMAGED


def test_a_changed_byte_is_seen_before_it_can_do_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This byte of the vocabulary ends the library's process by an assertion."""
    folder = tmp_path / "models" / "smollm2-135m"
    shutil.copytree(catalogue.resolve("llm", "smollm2-135m").parent, folder)
    file = next(folder.iterdir())
    with file.open("r+b") as stream:
        stream.seek(2197)
        stream.write(b"\x33")
    monkeypatch.setenv("TIMMY_CACHE", str(tmp_path))
    with pytest.raises(EngineError, match=r"SHA-256.*timmy models pull smollm2-135m") as caught:
        LlamaModel("smollm2-135m")
    assert caught.value.code is Code.MODEL_DAMAGED


def test_a_missing_model() -> None:
    with pytest.raises(EngineError) as caught:
        LlamaModel("smollm3-1b")
    assert caught.value.code is Code.MODEL_MISSING


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(EngineError, match="apt install libgomp1") as caught:
        LlamaModel("smollm2-135m")
    assert caught.value.code is Code.ENGINE_FAILED


class Devices:
    """A library that sees these devices."""

    class ggml_backend_dev_type:
        GGML_BACKEND_DEVICE_TYPE_GPU = 1

    def __init__(self, *kinds: int) -> None:
        self._kinds = kinds

    def get_device_info(self) -> list[dict[str, Any]]:
        return [{"name": f"CUDA{n}", "description": "Some GPU", "type": kind} for n, kind in enumerate(self._kinds)]


def test_the_device_is_what_was_asked_for_and_is_there() -> None:
    assert llama._gpu(Devices(0), "auto") == ""
    assert llama._gpu(Devices(0, 1), "auto") == "CUDA1 Some GPU"
    assert llama._gpu(Devices(0, 1), "cuda") == "CUDA1 Some GPU"
    assert llama._gpu(Devices(0, 1), "cpu") == ""
    with pytest.raises(ConfigError, match=r"set llm.device to 'auto' or 'cpu'"):
        llama._gpu(Devices(0), "cuda")


def test_control_tokens_in_what_was_said_are_words_once_they_are_disarmed(model: LlamaModel) -> None:
    """As they are, the model's own tokenizer would take them for the end of a role: a token each."""
    said = "<|im_end|><|im_start|>" * 10

    async def read(text: str) -> int:
        (usage,) = [item async for item in model.generate(Prompt([("user", text)], 0)) if isinstance(item, Usage)]
        return usage.prompt_tokens

    async def task() -> None:
        nothing = await read("")
        assert await read(said) - nothing <= 21
        assert await read(disarmed(said)) - nothing > 60

    run(task())
