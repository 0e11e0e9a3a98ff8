"""llama.cpp's own HTTP server with the embedded model, in a process of its own: python -m tests.support.llama_server

Prints its address and serves until its input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MODEL = "smollm2-135m"


@contextmanager
def llama_server() -> Iterator[str]:
    """Its address, without the path of its API."""
    command = [sys.executable, "-m", "tests.support.llama_server"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http"), f"it did not start: {address!r}"
        try:
            yield address
        finally:
            process.kill()


def main() -> None:
    import xllamacpp

    from daemons.catalogue import resolve

    params = xllamacpp.CommonParams()
    params.model.path = str(resolve("llm", MODEL))
    params.model_alias = {MODEL}
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
