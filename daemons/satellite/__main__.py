"""python -m daemons.satellite: `timmy satellite`."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import signal
import sys

from daemons import config
from daemons.journald import FAILED, about
from daemons.notify import notify
from daemons.runtime import begin_log
from daemons.satellite.service import SatelliteService
from ipc.errors import EXIT_OK, TimmyError
from ipc.network import house

log = logging.getLogger(__name__)


async def _run() -> None:
    settings = config.load()
    wanted = settings.house
    there = house(wanted.address, wanted.port, wanted.key, config.keys_dir())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await SatelliteService(settings.satellite, there).run(stop)


def main() -> int:
    """Runs until SIGTERM or SIGINT. Returns the exit status."""
    begin_log("satellite")
    faulthandler.enable()  # a watchdog ends it by SIGABRT: where it hung
    try:
        logging.getLogger().setLevel(config.log_level())
        asyncio.run(_run())
    except TimmyError as error:
        log.error("%s", error, extra=about(FAILED))
        notify(f"STATUS={error}")
        return error.exit_status
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
