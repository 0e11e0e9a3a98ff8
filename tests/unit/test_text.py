"""Words from outside do nothing to a terminal, a log, or whoever reads a line at a time."""

from __future__ import annotations

import io
import json
import logging

import pytest

from daemons.runtime import _OneLine
from ipc.errors import CallError, Code, ConfigError, TimmyError
from ipc.text import printable, printable_json

EVIL = "a\x1b[31m\r\nllm: b\x07\x9b\x85\u2028\u202ec\x00\ud800"


def test_it_is_one_line_of_what_can_be_seen() -> None:
    assert printable(EVIL) == "a [31m  llm: b     c  "
    assert printable("größer, 大きい, €5 – naïve 🙂") == "größer, 大きい, €5 – naïve 🙂"


def test_json_stays_what_it_was() -> None:
    value = {"größer": [EVIL, "\U000e0041", 1, None]}
    for text in (printable_json(value), printable_json(value, indent=2)):
        assert json.loads(text) == value
        assert text.replace("\n", "").isprintable()
        assert "größer" in text


@pytest.mark.parametrize("error", [TimmyError(EVIL), ConfigError(EVIL), CallError(Code.BUSY, EVIL)])
def test_an_error_is_one_line(error: TimmyError) -> None:
    assert str(error).isprintable()
    assert "llm: b" in str(error)


def test_a_record_of_the_log_is_one_line_and_a_traceback_is_marked() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(_OneLine("tts"))
    log = logging.Logger("words")
    log.addHandler(handler)
    log.warning("it said %s", EVIL)
    try:
        raise ValueError("first\ntts: second\x1b")
    except ValueError:
        log.exception("it failed")
    first, second, *rest = out.getvalue().splitlines()
    assert first == f"tts: it said {printable(EVIL)}"
    assert second == "tts: it failed"
    assert rest[-2:] == ["tts: | ValueError: first", "tts: | tts: second "]
    assert all(line.startswith("tts: | ") for line in rest)
