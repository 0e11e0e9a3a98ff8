"""Models by their usual ids, from a hub on this machine, through Hugging Face's own library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons import catalogue
from daemons.catalogue import MANIFEST
from daemons.engines.base import EngineError
from tests.support.hub import Hub
from tools import hub
from tools.wheels import FetchError

WHISPER = {"model.bin": b"m" * 5000, "config.json": b"{}", "tokenizer.json": b"{ }", "vocabulary.txt": b"a\nb"}
VOICE = "en/en_US/lessac/medium/en_US-lessac-medium.onnx"


@pytest.fixture
def server() -> Iterator[Hub]:
    repositories = {
        "Systran/faster-whisper-small": WHISPER | {"README.md": b"read me"},
        "rhasspy/piper-voices": {VOICE: b"v" * 3000, f"{VOICE}.json": b"{}", "en/other.onnx": b"o"},
        "owner/repo-GGUF": {"a.gguf": b"a" * 100, "b.gguf": b"b" * 100},
    }
    with Hub(repositories) as server:
        yield server


def _pull(name: str, cache: Path, server: Hub) -> bool:
    source = hub.wanted(name)
    assert source is not None
    return hub.pull(name, source, cache, server.url)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("small", ("Systran/faster-whisper-small", "model.bin")),
        ("large-v3-turbo", ("mobiuslabsgmbh/faster-whisper-large-v3-turbo", "model.bin")),
        ("me/my-whisper", ("me/my-whisper", "model.bin")),
        ("en_US-lessac-medium", ("rhasspy/piper-voices", VOICE)),
        ("owner/repo-GGUF/a.gguf", ("owner/repo-GGUF", "a.gguf")),
    ],
)
def test_what_a_name_stands_for(name: str, wanted: tuple[str, str]) -> None:
    found = hub.wanted(name)
    assert found is not None
    assert (found.repository, found.patterns[0]) == wanted


@pytest.mark.parametrize("name", ["llama3.2:3b", "nonsense", "a.gguf", "a/b/c/d.gguf"])
def test_what_hugging_face_does_not_have(name: str) -> None:
    assert hub.wanted(name) is None


def test_a_whisper_by_its_size(server: Hub, tmp_path: Path) -> None:
    assert _pull("small", tmp_path, server)
    folder = catalogue.resolve("stt", "small", tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*WHISPER, MANIFEST])
    assert (folder / "model.bin").read_bytes() == WHISPER["model.bin"]
    assert sorted(server.fetched) == sorted(WHISPER)
    assert not _pull("small", tmp_path, server)  # all there: not even asked
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


def test_a_damaged_file_is_fetched_again(server: Hub, tmp_path: Path) -> None:
    _pull("small", tmp_path, server)
    path = tmp_path / "models" / "small" / "model.bin"
    path.write_bytes(b"x" * 5000)
    assert catalogue.faults("small", tmp_path, sums=True)
    assert _pull("small", tmp_path, server)
    assert not catalogue.faults("small", tmp_path, sums=True)


def test_a_piper_voice(server: Hub, tmp_path: Path) -> None:
    assert _pull("en_US-lessac-medium", tmp_path, server)
    assert catalogue.resolve("tts", "en_US-lessac-medium", tmp_path).read_bytes() == b"v" * 3000


def test_two_ggufs_of_one_repository(server: Hub, tmp_path: Path) -> None:
    assert _pull("owner/repo-GGUF/a.gguf", tmp_path, server)
    with pytest.raises(EngineError, match=r"timmy models pull owner/repo-GGUF/b\.gguf"):
        catalogue.resolve("llm", "owner/repo-GGUF/b.gguf", tmp_path)
    assert _pull("owner/repo-GGUF/b.gguf", tmp_path, server)
    for name in ("owner/repo-GGUF/a.gguf", "owner/repo-GGUF/b.gguf"):
        assert catalogue.resolve("llm", name, tmp_path).name == name[-6:]
        assert not _pull(name, tmp_path, server)


def test_what_came_damaged_is_not_kept(server: Hub, tmp_path: Path) -> None:
    server.damage = b"!!"
    with pytest.raises(FetchError, match=r"came damaged \(SHA-256\): run it again"):
        _pull("owner/repo-GGUF/a.gguf", tmp_path, server)
    server.damage = b""
    assert _pull("owner/repo-GGUF/a.gguf", tmp_path, server)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody/nothing", "Hugging Face has no nobody/nothing: is 'nobody/nothing' right?"),
        ("owner/repo-GGUF/c.gguf", "owner/repo-GGUF has no c.gguf: is 'owner/repo-GGUF/c.gguf' right?"),
    ],
)
def test_what_is_not_there(server: Hub, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(FetchError) as caught:
        _pull(name, tmp_path, server)
    assert str(caught.value) == message


def test_no_hub(server: Hub, tmp_path: Path) -> None:
    server.url = "http://127.0.0.1:9"
    with pytest.raises(
        FetchError, match=r"small cannot be fetched from Hugging Face: .*refused.*; run it again"
    ) as caught:
        _pull("small", tmp_path, server)
    assert "\n" not in str(caught.value)
