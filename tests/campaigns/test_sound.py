"""The campaign of the sound card finds what does not come back, and what is not heard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.campaigns import sound
from tools.bench.soundcard import SoundCard

pytestmark = [pytest.mark.models, pytest.mark.sound]


class _Late(SoundCard):
    """Is there again some seconds after it was plugged in."""

    def plug(self) -> None:
        self.plugging = threading.Timer(6.0, super().plug)
        self.plugging.start()

    def _stop(self) -> None:
        if hasattr(self, "plugging"):
            self.plugging.join()
        super()._stop()


class _Deaf(SoundCard):
    """Nothing that is played into its microphone comes through."""

    def play(self, wav: Path) -> None:
        return


@pytest.fixture
def only(request: pytest.FixtureRequest) -> Iterator[None]:
    with mock.patch.object(sound, "FAULTS", {request.param: sound.FAULTS[request.param]}):
        yield


@pytest.mark.parametrize("only", ["unplugged"], indirect=True)
@pytest.mark.usefixtures("only")
def test_a_card_that_is_not_noticed_in_time_is_found() -> None:
    with pytest.raises(
        AssertionError, match=r"unplugged, number 0 of seed 1: it was back after \d+\.\d s, not within 3 s"
    ):
        sound.run(1, 1, _Late)


@pytest.mark.parametrize("only", ["clipped"], indirect=True)
@pytest.mark.usefixtures("only")
def test_a_question_that_is_not_heard_is_found() -> None:
    with (
        mock.patch.object(sound, "HUNG_S", 8.0),
        pytest.raises(
            AssertionError, match=r"(?s)clipped, number 0 of seed 1: a question was not heard.*stt: listening to"
        ),
    ):
        sound.run(1, 1, _Deaf)
