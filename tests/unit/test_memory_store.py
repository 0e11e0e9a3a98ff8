"""The store on real files: what it keeps, finds, and really erases."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import pytest

from daemons.engines.fakes_memory import FakeEmbedder
from daemons.memory import core, schema
from daemons.memory.faults import StoreError
from daemons.memory.store import Store
from ipc.errors import Code

EMBEDDER = FakeEmbedder()


def opened(path: Path, embedder: FakeEmbedder = EMBEDDER) -> Store:
    store = Store(path)
    store.use_embedder(embedder.info.model, embedder.dimensions, embedder.embed)
    return store


def told(store: Store, text: str, importance: int = 3, told_s: float = 1.0, embedder: FakeEmbedder = EMBEDDER) -> int:
    return store.store(text, core.same_key(text), importance, told_s, embedder.embed([text])[0])


def texts(store: Store) -> list[str]:
    return [memory.text for memory in store.page(0, 200)[0]]


def found(store: Store, question: str, embedder: FakeEmbedder = EMBEDDER) -> dict[str, int]:
    """The candidates' texts, each with its telling words."""
    hits = store.search(embedder.embed([question])[0], core.telling_words(question), 3)
    return {hit.text: hit.words for hit in hits}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory" / "memory.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = opened(path)
    yield store
    store.close()


def test_it_is_the_owners_alone(store: Store, path: Path) -> None:
    told(store, "the key is here")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_what_was_open_to_others_is_closed(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    path.touch(0o644)
    opened(path).close()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_memories_stay(path: Path) -> None:
    store = opened(path)
    told(store, "the key is here", 4, 12.5)
    store.close()
    assert not Path(f"{path}-wal").read_bytes(), "all is in the one file"
    store = opened(path)
    [memory], total = store.page(0, 10)
    assert (memory.text, memory.importance, memory.created_s, total) == ("the key is here", 4, 12.5, 1)
    assert found(store, "Where is the key?") == {"the key is here": 1}
    store.close()


def test_what_was_stored_outlives_a_killed_process(store: Store, path: Path, tmp_path: Path) -> None:
    """Copies the files as they lie, log and all, which is what a kill leaves."""
    told(store, "the key is here")
    copy = tmp_path / "copy" / "memory.db"
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    again = opened(copy)
    assert texts(again) == ["the key is here"]
    again.close()


def test_pages_follow_one_another(store: Store) -> None:
    ids = [told(store, f"note number {n}") for n in range(5)]
    first, total = store.page(0, 3)
    rest, _ = store.page(first[-1].id, 3)
    assert [memory.id for memory in first + rest] == ids
    assert total == 5
    assert store.page(ids[-1], 3) == ([], 5)


def test_the_same_fact_is_told_anew_not_twice(store: Store) -> None:
    first = told(store, "the plumber comes at nine.", 4, 1.0)
    again = told(store, "The plumber comes at 9", 3, 2.0)
    assert first == again
    [memory], total = store.page(0, 10)
    assert (memory.text, memory.importance, memory.created_s, total) == ("The plumber comes at 9", 4, 2.0, 1)
    assert found(store, "plumber") == {"The plumber comes at 9": 1}
    assert found(store, "nine") == {"The plumber comes at 9": 0}
    assert told(store, "the plumber comes at ten.") != first


def test_search_finds_by_meaning_and_by_words(store: Store) -> None:
    for n in range(60):
        told(store, f"note {n} about bread and butter and bread and butter")
    told(store, "the electrician is called Novak and lives far away in a small house by the sea with three cats")
    hits = found(store, "Is Nováks house by the sea?")
    assert next(count for text, count in hits.items() if "Novak" in text) == 3
    assert len(hits) <= 50


def test_search_in_an_empty_store_finds_nothing(store: Store) -> None:
    assert found(store, "Where is the key?") == {}


def test_forgetting_tells_how_many_were_there(store: Store) -> None:
    ids = [told(store, f"note number {n}") for n in range(3)]
    assert store.forget([ids[0], ids[2], 999]) == 2
    assert store.forget([ids[0]]) == 0
    assert store.forget([]) == 0
    assert texts(store) == ["note number 1"]
    assert "note number 0" not in found(store, "note number")
    assert told(store, "another") > ids[-1], "an id is never given twice"


def test_forgotten_bytes_are_gone(path: Path) -> None:
    """Text, words of the index and vector, from the database and from its log."""
    secret = "the xylophonist Quagmire lives on Zebulon Road"
    vector = struct.pack("16f", *EMBEDDER.embed([secret])[0][:16])
    traces = [b"ylophonist", b"uagmir", b"ebulon", secret.encode(), vector]
    store = opened(path)
    told(store, "the key is here")
    id_ = told(store, secret)
    assert [trace for trace in traces if not left(path, trace)] == []
    store.forget([id_])
    assert [trace for trace in traces if left(path, trace)] == []
    store.close()
    assert [trace for trace in traces if left(path, trace)] == []


def left(path: Path, trace: bytes) -> bool:
    return any(trace in file.read_bytes() for file in path.parent.iterdir())


def test_replaced_words_are_gone_when_something_is_forgotten(store: Store, path: Path) -> None:
    told(store, "Zebulon comes at nine")
    told(store, "ZEBULON comes at 9")
    store.forget([told(store, "something else")])
    assert left(path, b"ZEBULON comes at 9")
    assert not left(path, b"Zebulon comes at nine")


def test_forgetting_says_when_another_program_keeps_a_copy(store: Store, path: Path) -> None:
    id_ = told(store, "the key is here")
    other = apsw.Connection(str(path))
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM memory").fetchall()
    with pytest.raises(StoreError, match="in use by another program") as caught:
        store.forget([id_])
    assert caught.value.code is Code.STORE_LOCKED
    assert texts(store) == []
    other.close()
    store.forget([])
    assert not left(path, b"the key is here")


def test_another_embedder_embeds_all_anew(path: Path) -> None:
    store = opened(path)
    for n in range(70):
        told(store, f"note {n}")
    store.close()
    wider = FakeEmbedder("wider", 96)
    store = Store(path)
    assert store.use_embedder("wider", 96, wider.embed) == 70
    assert store.use_embedder("wider", 96, wider.embed) == 0
    assert found(store, "note 69", wider)["note 69"] == 2
    store.close()


def test_embedding_anew_is_all_or_nothing(path: Path) -> None:
    store = opened(path)
    told(store, "the key is here")
    store.close()

    def failing(_: Sequence[str]) -> list[list[float]]:
        raise RuntimeError("no power")

    store = Store(path)
    with pytest.raises(RuntimeError, match="no power"):
        store.use_embedder("wider", 96, failing)
    assert found(store, "key") == {"the key is here": 1}
    store.close()


def test_an_older_database_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(path)
    told(store, "the key is here")
    store.close()
    step = "ALTER TABLE memory ADD COLUMN place TEXT NOT NULL DEFAULT 'home';"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    store = opened(path)
    assert texts(store) == ["the key is here"]
    store.close()
    database = apsw.Connection(str(path))
    assert database.execute("SELECT place FROM memory").get == "home"
    assert database.pragma("user_version") == schema.VERSION
    database.close()


def test_a_failed_step_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(path).close()
    version = schema.VERSION
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE extra (a); SELECT nonsense;"))
    monkeypatch.setattr(schema, "VERSION", version + 1)
    with pytest.raises(apsw.SQLError, match="nonsense"):
        Store(path)
    database = apsw.Connection(str(path))
    assert database.pragma("user_version") == version
    assert database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'extra'").get == 0
    database.close()
