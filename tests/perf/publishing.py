"""What it costs a daemon to publish one header: python -m tests.perf.publishing

For each publisher and number of observers, the time of a core in microseconds for a header, of the loop's thread and of
the whole process; less what the loop takes without publishing. The observers read all in another process.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq

from ipc.endpoints import observer_path
from ipc.observation import Observation
from tests.socket.rig import DAEMON, until
from tests.support.observed_by_libzmq import ObservedByLibzmq

HEADERS = 400
ROUNDS = 9
"""Of so many headers, in turns with as many of the same without them: the median of what is more."""

AT_ONCE = (1, 20)
"""Headers published in one turn of the loop; a millisecond lies between two of these turns."""

OBSERVERS = (0, 1, 8)
HEADER = bytes(120)


class AtOnce(Observation):
    """Writes each header by itself, without waiting for the end of the turn."""

    def publish(self, topic: bytes, frames: object) -> None:
        super().publish(topic, frames)  # type: ignore[arg-type]
        self._flush()


def observe(path: str, count: int) -> None:
    """What the other process does."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    for _ in range(count):
        watch = context.socket(zmq.SUB)
        watch.setsockopt(zmq.SUBSCRIBE, b"")
        watch.connect(f"ipc://{path}")
        poller.register(watch, zmq.POLLIN)
    while True:
        for watch, _ in poller.poll():
            watch.recv_multipart()


@contextmanager
def _observed(path: Path, count: int) -> Iterator[None]:
    command = [sys.executable, "-c", f"from tests.perf.publishing import observe; observe({str(path)!r}, {count})"]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()


async def _spent(publisher: Observation | ObservedByLibzmq | None, at_once: int) -> tuple[float, float]:
    """Of the thread and of the process, in µs for a header."""
    thread_s, process_s = time.thread_time(), time.process_time()
    for _ in range(HEADERS // at_once):
        for number in range(at_once):
            if publisher is not None:
                publisher.publish(b"llm.token", [HEADER, number.to_bytes(8, "big")])
        await asyncio.sleep(0.001)
    return (time.thread_time() - thread_s) / HEADERS * 1e6, (time.process_time() - process_s) / HEADERS * 1e6


async def _measure(kind: type[Observation] | type[ObservedByLibzmq], count: int, at_once: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="timmy-") as folder:
        publisher = kind(DAEMON, observer_path(DAEMON, Path(folder)), None, lambda uid: False)
        publisher.start()
        with _observed(observer_path(DAEMON, Path(folder)), count):
            if kind is ObservedByLibzmq:  # which counts a topic once
                await until(lambda: publisher.subscriptions == min(count, 1))
                await asyncio.sleep(0.5)
            else:
                await until(lambda: publisher.subscriptions == count)
            rounds = [(await _spent(None, at_once), await _spent(publisher, at_once)) for _ in range(ROUNDS)]
        publisher.close()
    more = [(spent[0] - idle[0], spent[1] - idle[1]) for idle, spent in rounds]
    return statistics.median(thread for thread, _ in more), statistics.median(process for _, process in more)


def main() -> None:
    for at_once in AT_ONCE:
        for count in OBSERVERS:
            for kind in (ObservedByLibzmq, Observation, AtOnce):
                thread, process = asyncio.run(_measure(kind, count, at_once))
                print(f"{at_once:3} at once, {count} observers: {kind.__name__:16} {thread:6.1f} {process:6.1f} µs")


if __name__ == "__main__":
    main()
