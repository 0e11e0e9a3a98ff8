"""The configuration: where it is found, what goes over what, and that every error says what to do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from daemons import config
from ipc.errors import EXIT_CONFIG, ConfigError


def _load(tmp_path: Path, text: str = "", **environ: str) -> config.Config:
    (tmp_path / "timmy.toml").write_text(text)
    return config.load({"TIMMY_CONFIG": str(tmp_path / "timmy.toml"), **environ})


def test_the_commented_default_names_every_key_with_its_default() -> None:
    uncommented = re.sub(r"(?m)^#(?=\w+ = )", "", config.default_text())
    assert tomllib.loads(uncommented) == msgspec.to_builtins(config.Config())


def test_the_commented_default_as_it_stands_changes_nothing(tmp_path: Path) -> None:
    assert _load(tmp_path, config.default_text()) == config.Config()


def test_no_file_is_no_error() -> None:
    assert config.load({"HOME": "/nonexistent"}) == config.Config()


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    loaded = _load(tmp_path, '[stt]\nthreads = 3\nmodel = "base"', TIMMY_STT_THREADS="5", TIMMY_MEMORY_RELEVANCE="0.25")
    assert (loaded.stt.threads, loaded.stt.model, loaded.memory.relevance) == (5, "base", 0.25)


def test_where_each_value_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "timmy.toml"
    path.write_text("[stt]\nthreads = 3\n")
    environ = {"TIMMY_CONFIG": str(path), "TIMMY_TTS_VOICE": "en_US-lessac-medium"}
    sources = {(s.table, s.key): (s.value, s.source) for s in config.settings(environ)}
    assert sources["stt", "threads"] == (3, str(path))
    assert sources["tts", "voice"] == ("en_US-lessac-medium", "TIMMY_TTS_VOICE")
    assert sources["stt", "model"] == ("tiny.en", "default")
    assert len(sources) == sum(len(vars_) for vars_ in msgspec.to_builtins(config.Config()).values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[stt]\nmodle = 1", "[stt] has no key 'modle'; did you mean 'model'?"),
        ("[sst]\nmodel = 1", "no table [sst]; did you mean 'stt'?"),
        ("[kitchen]\na = 1", "no table [kitchen]; it knows stt, dialog, llm, memory, tts"),
        ("stt = 3", "[stt] is a table of keys, not a value"),
        ("model = 'x'", "no table [model]"),
        ("[stt]\nthreads = '2'", "[stt] threads = '2': Expected `int`, got `str`"),
        ("[stt]\nthreads = true", "[stt] threads = True: Expected `int`, got `bool`"),
        ("[stt]\nvad_aggressiveness = 4", "[stt] vad_aggressiveness = 4: Expected `int` <= 3"),
        ("[llm]\ndevice = 'gpu'", "[llm] device = 'gpu': not one of auto, cpu, cuda; did you mean 'cpu'?"),
        ("[llm]\nengine = 'olama'", "not one of auto, llama, ollama, openai; did you mean 'ollama'?"),
        ("[llm]\nollama_url = 'localhost:11434'", "expected an address like http://127.0.0.1:11434"),
        ("[llm]\nollama_url = 'http://user@host'", "expected an address like http://127.0.0.1:11434"),
        ("[tts]\noutput = ''", "[tts] output = '': expected auto or (part of) a device's name"),
        ("[stt]\nconfirm_silence_ms = 500", '[stt] confirm_silence_ms is no more: write endpointing = "quick"'),
        ("[stt]\nendpointing = 'quik'", "[stt] endpointing = 'quik': not one of quick, calm; did you mean 'quick'?"),
        ("[stt", "Expected ']' at the end of a table declaration"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    said = str(caught.value)
    assert said.startswith(str(tmp_path / "timmy.toml")), said
    assert message in said
    assert "\n" not in said
    assert caught.value.exit_status == EXIT_CONFIG


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TIMMY_STT_THREADS", "many", "TIMMY_STT_THREADS: [stt] threads = 'many': Expected `int`, got `str`"),
        ("TIMMY_STT_CONFIRM_SILENCE_MS", "500", "TIMMY_STT_CONFIRM_SILENCE_MS: [stt] confirm_silence_ms is no more"),
        ("TIMMY_STT_THREDS", "2", "TIMMY_STT_THREDS: [stt] has no key 'threds'; did you mean 'threads'?"),
        ("TIMMY_STT", "2", "TIMMY_STT: [stt] has no key ''"),
        ("TIMMY_LLM_DEVICE", "", "TIMMY_LLM_DEVICE: [llm] device = '': not one of auto, cpu, cuda"),
    ],
)
def test_a_wrong_environment_variable(tmp_path: Path, variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, "", **{variable: value})
    assert str(caught.value).startswith(message)


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    reserved = dict.fromkeys(config.RESERVED - {"TIMMY_CONFIG"}, "x")
    assert _load(tmp_path, "", **reserved) == config.Config()


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file \(named by TIMMY_CONFIG\)"):
        config.load({"TIMMY_CONFIG": str(tmp_path / "nowhere.toml")})


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{tmp_path}: Is a directory"):
        config.load({"TIMMY_CONFIG": str(tmp_path)})


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "timmy.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="can't decode"):
        config.load({"TIMMY_CONFIG": str(tmp_path / "timmy.toml")})


def test_the_folders() -> None:
    home = {"HOME": "/home/a"}
    assert config.config_path(home) == Path("/home/a/.config/timmy/timmy.toml")
    assert config.cache_dir(home) == Path("/home/a/.cache/timmy")
    assert config.state_dir(home) == Path("/home/a/.local/state/timmy")
    assert config.config_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/timmy/timmy.toml")
    assert config.cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/timmy")
    assert config.state_dir({"STATE_DIRECTORY": "/var/lib/timmy"}) == Path("/var/lib/timmy")
    assert config.cache_dir({"CACHE_DIRECTORY": "/x", "TIMMY_CACHE": "/y"}) == Path("/y")


def test_how_much_is_logged() -> None:
    assert (config.log_level({}), config.log_level({"TIMMY_LOG": "debug"})) == ("INFO", "DEBUG")
    with pytest.raises(ConfigError, match="TIMMY_LOG = 'loud': not one of DEBUG, INFO"):
        config.log_level({"TIMMY_LOG": "loud"})
