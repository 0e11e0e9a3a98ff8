"""Campaign 11: the memory's database, cut off at random moments. What was acknowledged is there, all of it whole."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import apsw
import sqlite_vec

from daemons.memory.faults import StoreError
from daemons.memory.store import Store
from ipc.errors import Code
from tests.support.faulty_disk import Disk, Fate
from tests.support.forked import Forked

ROWS = 10
"""Written in a row by each process that is cut off."""
DIMENSIONS = 16
LIVES = 20
"""So often one database is cut off before another one is begun."""
OPERATIONS = 260
"""About as many as opening and `ROWS` rows take; a process that needs fewer is cut off behind the last."""
FATES = ("outside", "killed", "power", "full", "limit")
REFUSALS = frozenset({Code.STORE_FULL, Code.ENGINE_FAILED})

Make = Callable[[Path], Store]
Pipe = Connection


@dataclass(frozen=True, slots=True)
class Cut:
    """How a process ends. `at`: the operation of the disk; for "outside" the row after which it is killed, for "limit"
    the size that no file may have."""

    seed: str
    fate: str
    at: int


@dataclass(slots=True)
class Known:
    """What must be in the database. `open`: what may or may not be, since nobody was told."""

    texts: dict[int, str] = field(default_factory=dict)
    ids: dict[int, int] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)


def text(number: int) -> str:
    """Of one page or several, and no two alike."""
    chance = random.Random(number)
    return f"row{number} " + " ".join(f"w{chance.randrange(10**6)}" for _ in range(chance.choice((3, 30, 900))))


def vector(number: int) -> list[float]:
    chance = random.Random(number)
    return [chance.uniform(-1, 1) for _ in range(DIMENSIONS)]


def _embed(texts: Sequence[str]) -> list[list[float]]:
    return [vector(int(each.split()[0].removeprefix("row"))) for each in texts]


# --- the process that is cut off ---


def write(pipe: Pipe, make: Make, path: Path, first: int, victim: int, cut: Cut) -> None:
    """Writes rows and erases one, and tells of each as soon as it is acknowledged."""
    chance = random.Random(cut.seed)
    fate = Fate(cut.fate) if cut.fate in ("killed", "power", "full") else Fate.KILLED
    disk = Disk(fate, 0 if cut.fate in ("outside", "limit") else cut.at, chance)
    vfs = disk.install()  # SQLite keeps no reference
    if cut.fate == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (cut.at, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    store = _opened(pipe, make, path, disk)
    for number in range(first, first + ROWS):
        row = partial(store.store, text(number), text(number), 3, 0.0, vector(number))
        _try(pipe, ("row", number), disk, row)
    if victim:
        _try(pipe, ("forgot", victim), disk, lambda: store.forget([victim]))
    if fate is Fate.FULL and chance.random() < 0.5:
        store.close()
        pipe.send(("closed", 0))
    disk.down()
    del vfs


def _opened(pipe: Pipe, make: Make, path: Path, disk: Disk) -> Store:
    """A store that is refused at any point of being opened is given up, and opened anew once there is room."""
    while True:
        store = None
        try:
            store = make(path)
            store.use_embedder("fake", DIMENSIONS, _embed)
        except StoreError as error:
            _make_room(pipe, ("opened", 0), disk, error)
            if store is not None:
                store.close()  # or its lock would refuse the next one
        else:
            return store


def _try(pipe: Pipe, what: tuple[str, int], disk: Disk, work: Callable[[], int]) -> None:
    try:
        done = work()
    except StoreError as error:
        _make_room(pipe, what, disk, error)
    else:
        pipe.send((*what, done))


def _make_room(pipe: Pipe, what: tuple[str, int], disk: Disk, error: StoreError) -> None:
    assert error.code in REFUSALS, error
    pipe.send(("refused", what, error.code))
    disk.free()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


# --- who looks at what is left ---


def run(count: int, seed: int, make: Make = Store) -> dict[str, int]:
    """How often a process was cut off, and how. Raises AssertionError with the cut's own seed."""
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder:
        path, known = Path(folder) / "memory" / "memory.db", Known()
        for number in range(count):
            if number % LIVES == 0:
                shutil.rmtree(path.parent, ignore_errors=True)
                known = Known()
            chance = random.Random(f"{seed}:{number}")
            cut = _cut(chance, f"{seed}:{number}")
            try:
                tried.update(once(make, path, known, number * ROWS + 1, cut, chance))
            except AssertionError as error:
                raise AssertionError(f"cut {cut}: {error}") from error
            tried[cut.fate] += 1
    return {"cuts": count, **tried}


def _cut(chance: random.Random, seed: str) -> Cut:
    fate = chance.choice(FATES)
    most = {"outside": ROWS, "limit": 400_000}.get(fate, OPERATIONS)
    return Cut(seed, fate, chance.randrange(most) + 1)


def once(make: Make, path: Path, known: Known, first: int, cut: Cut, chance: random.Random) -> dict[str, int]:
    """One process from its first row to its end; `known` is then what it acknowledged and what is left of the rest."""
    victim = chance.choice([0, *known.ids.values()])
    with Forked(write, make, path, first, victim, cut) as writer:
        told = _hear_and_kill(writer, cut, chance) if cut.fate == "outside" else writer.said()
        assert writer.ended() == -signal.SIGKILL, "it failed inside: see above"
    if cut.fate == "power":
        path.with_name("memory.db-shm").unlink(missing_ok=True)  # lives in memory alone
    refused = {what for kind, what, *_ in told if kind == "refused"}
    for kind, number, *done in told:
        if kind == "row":
            known.texts[number], known.ids[number] = text(number), done[0]
        elif kind == "forgot":
            _forget(known, number)
    with _opened_whole(path) as store:
        _settle(store, known, first, victim, refused)
        _findable(store, known)
    sound(path)
    return {"rows acknowledged": sum(kind == "row" for kind, *_ in told), "refused": len(refused)}


def _hear_and_kill(writer: Forked, cut: Cut, chance: random.Random) -> list[Any]:
    told = writer.said(cut.at - 1)
    time.sleep(chance.uniform(0, 0.004))
    writer.kill()
    return told + writer.said()


def _forget(known: Known, id_: int) -> None:
    known.gone.add(id_)
    for number in [number for number, other in known.ids.items() if other == id_]:
        del known.ids[number], known.texts[number]


def _settle(store: Store, known: Known, first: int, victim: int, refused: set[tuple[str, int]]) -> None:
    """What nobody was told may have happened or not, but only one thing was under way. Raises AssertionError."""
    entries = _all(store)
    there = {int(entry.text.split()[0].removeprefix("row")): entry for entry in entries}
    unasked = [number for number in there if number not in known.texts]
    for number in unasked:
        assert ("row", number) not in refused, f"row {number} was refused and is there"
        assert there[number].id not in known.gone, f"row {number} was erased and is back"
        assert first <= number < first + ROWS, f"row {number} comes from nowhere"
        known.texts[number], known.ids[number] = text(number), there[number].id
    assert len(unasked) <= 1, f"rows {unasked} are there and were not acknowledged"
    ids = {entry.id for entry in entries}
    if victim not in known.gone and ("forgot", victim) not in refused and victim not in ids:
        _forget(known, victim)
    wanted = {known.ids[number]: text for number, text in known.texts.items()}
    assert {entry.id: entry.text for entry in entries} == wanted, "acknowledged rows are missing or changed"


def _findable(store: Store, known: Known) -> None:
    """The newest rows are found by their vector and by their words. Raises AssertionError."""
    for number in list(known.texts)[-2 * ROWS :]:
        found = {hit.id: hit for hit in store.search(vector(number), [f"row{number}"], 1)}
        assert known.ids[number] in found, f"row {number} cannot be found"
        hit = found[known.ids[number]]
        assert hit.cosine > 0.999, f"the vector of row {number} is another one's"
        assert hit.words == 1, f"the words of row {number} are not in the index"


def sound(path: Path) -> None:
    """SQLite's own checks of its tables, its index of words and the number of vectors."""
    connection = apsw.Connection(str(path))
    try:
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        assert connection.execute("PRAGMA integrity_check").get == "ok"
        connection.execute("INSERT INTO memory_fts (memory_fts, rank) VALUES ('integrity-check', 1)")
        counts = connection.execute("SELECT (SELECT count(*) FROM memory), (SELECT count(*) FROM memory_vec)").get
        assert counts[0] == counts[1], f"rows and vectors: {counts}"
    finally:
        connection.close()


@contextmanager
def _opened_whole(path: Path) -> Iterator[Store]:
    try:
        store = Store(path)
        store.use_embedder("fake", DIMENSIONS, _embed)
    except StoreError as error:
        raise AssertionError(f"it cannot be opened again: {error}") from error
    try:
        yield store
    finally:
        store.close()


def _all(store: Store) -> list[Any]:
    entries: list[Any] = []
    while page := store.page(entries[-1].id if entries else 0, 200)[0]:
        entries += page
    return entries
