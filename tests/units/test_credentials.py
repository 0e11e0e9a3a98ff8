"""A server of models that wants a key: llm has it from systemd as a credential, under the sandbox that is shipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.messages import Answered, Ask, Status, StatusReport
from tests.support.fake_openai import FakeOpenAi
from tests.units.machine import PROGRAM
from tests.units.service import TIMMY, Services, until

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("whole")]
UNIT = "timmy-llm.service"
KEY, WRONG = "sk-of-a-test-6f1d0c", "sk-another-one-93ab"
QUESTION = Ask(conversation="test", text="What is the capital of France?", speak=False)

DOCUMENTED = (
    (Path(__file__).parent.parent.parent / "docs/systemd.md").read_text("utf-8").split("```ini\n")[1].split("```")[0]
)
"""What is typed into `systemctl edit`."""

REAL = f"[Service]\nExecStart=\nExecStart={PROGRAM}/bin/python -I -m daemons.llm\n"
"""The engine of a user, where the other tests have one that obeys orders."""


class Llm:
    """The daemon, and what its administrator does."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.machine = services.machine
        self.folder = Path(f"{self.machine.root}/etc/systemd/system/{UNIT}.d")
        self.key_file = Path(f"{self.machine.root}/etc/timmy/openai_key")

    def edit(self, text: str) -> None:
        self.machine.write(f"/etc/systemd/system/{UNIT}.d/override.conf", text)

    def put_key(self, key: str) -> None:
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(f"{key}\n", "ascii")

    def restart(self) -> None:
        self.machine.systemctl("daemon-reload")
        self.machine.run("systemctl", "start", "timmy-llm.socket", check=False)
        self.machine.run("systemctl", "restart", UNIT, check=False)

    def refused(self) -> str:
        """What `timmy status` says of the service that was started once and will not be again."""
        until(lambda: self.machine.show("timmy-refused@llm.target", "ActiveState") == "active", "refused")
        assert (self.services.state("llm"), self.services.restarts("llm")) == ("failed", 0)
        environ = {"TIMMY_RUNTIME": "/run/timmy", "HOME": "/root"}
        told = self.machine.run(TIMMY, "status", "--json", environ=environ, check=False).stdout
        said: str = json.loads(told)["llm"]["unit"]["said"]
        assert len(said.splitlines()) == 1
        return said

    def journal(self) -> str:
        return self.machine.run("journalctl", "--no-pager", "--all").stdout

    def restore(self) -> None:
        for path in (self.folder / "override.conf", self.folder / "60-real.conf", self.key_file):
            path.unlink(missing_ok=True)
        self.restart()


@pytest.fixture
def server() -> Iterator[FakeOpenAi]:
    """At the loopback, which the booted machine shares."""
    with FakeOpenAi(key=KEY) as fake:
        yield fake


@pytest.fixture
def llm(services: Services, server: FakeOpenAi) -> Iterator[Llm]:
    found = Llm(services)
    services.machine.write("/etc/timmy/timmy.toml", f'[llm]\nengine = "openai"\nopenai_url = "{server.api}"\n')
    services.machine.write(f"/etc/systemd/system/{UNIT}.d/60-real.conf", REAL)
    yield found
    found.restore()


def test_a_key_is_handed_over_and_shown_to_nobody(llm: Llm, server: FakeOpenAi) -> None:
    llm.edit(DOCUMENTED)
    llm.put_key(KEY)
    llm.restart()
    report = llm.services.ask("llm", Status())
    assert isinstance(report, StatusReport)
    assert (report.engine, report.model, report.state) == ("openai", server.models[0], "ready")
    answered = llm.services.ask("dialog", QUESTION)
    assert isinstance(answered, Answered)
    assert "Paris" in answered.said
    process = Path(f"/proc/{llm.machine.pid_here(report.pid)}")
    environ, command = ((process / name).read_text("utf-8") for name in ("environ", "cmdline"))
    assert f"CREDENTIALS_DIRECTORY=/run/credentials/{UNIT}" in environ.split("\0")
    for place in (environ, command, llm.machine.systemctl("show", UNIT), llm.journal()):
        assert KEY not in place
    for path in ("/etc/timmy/openai_key", f"/run/credentials/{UNIT}/openai_key"):
        assert KEY not in llm.machine.run("cat", path, user="nobody", check=False).stdout, path
        assert KEY in llm.machine.run("cat", path).stdout, path


def test_a_wrong_key_is_said_and_tried_once(llm: Llm) -> None:
    llm.edit(DOCUMENTED)
    llm.put_key(WRONG)
    llm.restart()
    assert "refuses the key (401): correct it in the file" in llm.refused()
    assert llm.machine.show(UNIT, "ExecMainStatus") == "78"
    assert WRONG not in llm.journal()


def test_a_key_that_nobody_handed_over_is_said(llm: Llm) -> None:
    llm.restart()
    assert "wants a key (401): put it into the file that llm.openai_key_file names" in llm.refused()
    assert llm.machine.show(UNIT, "ExecMainStatus") == "78"


def test_a_file_of_a_key_that_is_not_there_is_said(llm: Llm) -> None:
    llm.edit(DOCUMENTED)
    llm.restart()
    assert (
        llm.refused() == f"a credential cannot be read: `systemctl cat {UNIT}` shows where LoadCredential= looks for it"
    )
