"""`timmy satellite`: this machine is a microphone and a speaker of the house."""

from __future__ import annotations

import os
import sys

import click

from tools.far import configured_house


@click.command()
def satellite() -> None:
    """Be the microphone and the speaker of another room.

    What is said here goes to the house that [house] in timmy.toml names, and its answer sounds here. Runs until Ctrl-C;
    when the link is cut it goes on by itself once that is back. docs/satellite.md shows how both machines are set up.

    \b
    timmy satellite
    TIMMY_SATELLITE_INPUT=question.wav TIMMY_SATELLITE_OUTPUT=answer.wav timmy satellite
    """
    configured_house()
    os.execv(sys.executable, [sys.executable, "-m", "daemons.satellite"])
