"""Where the sockets lie and who may use the folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipc import limits
from ipc.endpoints import DAEMONS, Lock, claim_folder, observer_path, runtime_dir, socket_path
from ipc.errors import EXIT_CANT_CREATE, EndpointError


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"TIMMY_RUNTIME": "/a", "XDG_RUNTIME_DIR": "/b"}, "/a"),
        ({"TIMMY_RUNTIME": "", "XDG_RUNTIME_DIR": "/b"}, "/b/timmy"),
        ({}, f"/tmp/timmy-{os.getuid()}"),
    ],
)
def test_the_folder_follows_the_environment(environ: dict[str, str], folder: str) -> None:
    assert runtime_dir(environ) == Path(folder)


def test_each_daemon_has_two_sockets_of_its_own(tmp_path: Path) -> None:
    paths = {make(daemon, tmp_path) for daemon in DAEMONS for make in (socket_path, observer_path)}
    assert len(paths) == 2 * len(DAEMONS)
    assert {path.parent for path in paths} == {tmp_path}


def test_a_path_the_kernel_cannot_take_is_refused() -> None:
    room = limits.UNIX_PATH_MAX_BYTES - len("/stt.sock")
    longest = Path("/" + "x" * (room - 1))
    assert len(os.fsencode(socket_path("stt", longest))) == limits.UNIX_PATH_MAX_BYTES
    with pytest.raises(EndpointError, match=r"108 bytes is too long.*TIMMY_RUNTIME") as caught:
        socket_path("stt", Path(f"{longest}x"))
    assert caught.value.exit_status == EXIT_CANT_CREATE
    with pytest.raises(EndpointError, match="too long"):
        socket_path("stt", Path("/" + "ä" * (room // 2)))


def test_the_folder_is_made_closed_to_others(tmp_path: Path) -> None:
    folder = claim_folder(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert claim_folder(folder) == folder


@pytest.mark.parametrize("mode", [0o701, 0o704, 0o702, 0o777, 0o720, 0o770])
def test_a_folder_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(EndpointError, match="open to others: chmod 700"):
        claim_folder(tmp_path)


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(EndpointError, match="is a link"):
        claim_folder(tmp_path / "link")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EndpointError, match=r"socket folder .*; set TIMMY_RUNTIME"):
            claim_folder(folder)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    owner = tmp_path.stat().st_uid or 65534
    if os.getuid() == 0:
        os.chown(tmp_path, owner, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(EndpointError, match=f"belongs to user {owner}"):
        claim_folder(tmp_path)


def test_one_holder_a_lock_and_it_is_named(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "stt.lock")
    with pytest.raises(EndpointError, match=rf"stt is running already \(pid {os.getpid()}\)"):
        Lock(tmp_path / "stt.lock")
    lock.release()
    Lock(tmp_path / "stt.lock").release()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = f"import pathlib; from ipc.endpoints import Lock; Lock(pathlib.Path({str(tmp_path / 'stt.lock')!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "stt.lock").read_text("ascii").strip() != str(os.getpid())
    Lock(tmp_path / "stt.lock").release()
    assert (tmp_path / "stt.lock").read_text("ascii") == f"{os.getpid()}\n"


def test_a_lock_of_unknown_make_is_still_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "stt.lock"
    lock = Lock(path)
    path.write_bytes(b"")
    with pytest.raises(EndpointError, match="pid unknown"):
        Lock(path)
    lock.release()


@pytest.mark.parametrize("obstacle", ["folder", "link"])
def test_a_lock_file_that_cannot_be_one_is_refused(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / "stt.lock"
    path.mkdir() if obstacle == "folder" else path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EndpointError, match=r"lock file .*stt\.lock"):
        Lock(path)
    assert not (tmp_path / "elsewhere").exists()
