"""Which of the questions a model answers rightly, from its notes and without.

`python -m tests.support.answers [GGUF ...]` prints the table of docs/adr/008-model-form.md. Each question is asked
under several names of the assistant: a change that means nothing, and so a second sample of the same question.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemons.config import Config
from daemons.dialog.prompt import Prompter
from daemons.engines.base import Prompt
from daemons.engines.llama import LlamaModel
from daemons.engines.minilm import MiniLm
from daemons.memory import core
from daemons.memory.store import Store
from tools.bench.questions import memories

DATA = Path(__file__).parents[1] / "data"
NAMES = ("Timmy", "Robin", "Nelly", "Max")
MAX_TOKENS = 40


def _listed(text: str) -> list[str]:
    return text.split()


_ONES = _listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = dict(enumerate(_listed("twenty thirty forty fifty sixty seventy eighty ninety"), 2))
_COMMON = frozenset(
    _listed("a after an and at be before by every for from has have i in is it of on our that the to was we")
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A right answer holds `pattern` or, from notes, at least half of `telling`."""

    question: str
    notes: tuple[str, ...] = ()
    telling: frozenset[str] = frozenset()
    pattern: str = ""

    def right(self, answer: str) -> bool:
        if self.pattern:
            return bool(re.search(self.pattern, answer, re.IGNORECASE))
        return 2 * len(self.telling & words(answer)) >= len(self.telling)


def words(text: str) -> frozenset[str]:
    """The words of a text, numbers spelt: "4915" gives four, nine, one, five, and "6:45" six, forty, five."""
    found: set[str] = set()
    for word in re.findall(r"[a-z]+|\d+", text.lower()):
        found |= _spelt(word) if word.isdigit() else {word}
    return frozenset(found)


def _spelt(number: str) -> set[str]:
    if len(number) > 2:
        return {_ONES[int(digit)] for digit in number}
    value = int(number)
    if value < len(_ONES):
        return {_ONES[value]}
    return {_TENS[value // 10]} | ({_ONES[value % 10]} if value % 10 else set())


def from_notes() -> list[Asked]:
    """The questions that a memory answers, each with what recall gives for it."""
    lines = (DATA / "recall_questions.tsv").read_text("utf-8").splitlines()
    pairs = [line.partition("\t")[::2] for line in lines if not line.startswith("#")]
    known = memories()
    embedder = MiniLm()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "memory.db")
        store.use_embedder("minilm", embedder.dimensions, embedder.embed)
        for text, vector in zip(known, embedder.embed(known), strict=True):
            store.store(text, core.same_key(text), 3, 0.0, vector)
        asked = []
        for question, beginning in pairs:
            telling = core.telling_words(question)
            hits = store.search(embedder.embed([question])[0], telling, 3)
            notes = tuple(hit.text for hit in core.relevant(hits, len(telling), Config().memory.relevance, 3))
            answer = next((note for note in notes if beginning and note.startswith(beginning)), "")
            if answer:
                asked.append(Asked(question, notes, words(answer) - words(question) - _COMMON))
        store.close()
    return asked


def plain() -> list[Asked]:
    """Questions that anybody can answer, without notes."""
    lines = (DATA / "plain_questions.tsv").read_text("utf-8").splitlines()
    pairs = [line.partition("\t")[::2] for line in lines if not line.startswith("#")]
    return [Asked(question, pattern=pattern) for question, pattern in pairs]


async def answers(model: LlamaModel, asked: Sequence[Asked], name: str) -> list[str]:
    """What the model says to each, at temperature 0."""
    prompter = Prompter(name, "", 0, lambda: "Monday, nine o'clock")
    said = []
    for each in asked:
        messages = [(message.role, message.content) for message in prompter.question(each.question, each.notes)]
        stream = model.generate(Prompt(messages, MAX_TOKENS, temperature=0.0))
        said.append("".join([item async for item in stream if isinstance(item, str)]))
    return said


async def _count(model: str, asked: Sequence[Asked], name: str) -> int:
    engine = LlamaModel(model, "cpu", threads=2)
    try:
        said = await answers(engine, asked, name)
    finally:
        await engine.close()
    return sum(each.right(answer) for each, answer in zip(asked, said, strict=True))


def main(models: Sequence[str]) -> None:
    sets = {"from notes": from_notes(), "plain": plain()}
    heads = [f"{kind}, as {name} (of {len(asked)})" for kind, asked in sets.items() for name in NAMES]
    print("| model |", " | ".join(heads), "|")
    print("|---" * (1 + len(heads)) + "|")
    for model in models:
        counts = [asyncio.run(_count(model, asked, name)) for asked in sets.values() for name in NAMES]
        print("|", Path(model).name, "|", " | ".join(map(str, counts)), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["smollm2-135m"])
