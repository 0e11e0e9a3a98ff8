"""Asks an Ollama server to fetch a model."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

from ipc.errors import CallError, Code

_CONNECT_S = 2.0


async def pull(url: str, model: str) -> AsyncGenerator[tuple[str, int, int], None]:
    """What the server says as it fetches: (what it does, bytes done, bytes in all), bytes 0 where it does not say.

    Ends when the model is there. Raises CallError(UPSTREAM_DOWN | MODEL_MISSING | UPSTREAM_FAILED).
    """
    import httpx
    from ollama import AsyncClient, ResponseError

    timeout = httpx.Timeout(None, connect=_CONNECT_S)  # a mirror may be silent for long
    client: Any = AsyncClient(url, timeout=timeout, trust_env=not _loopback(url))
    status = ""
    try:
        async with aclosing(await client.pull(model, stream=True)) as progress:
            async for part in progress:
                status = part.status or ""
                yield status, part.completed or 0, part.total or 0
    except (httpx.ConnectError, httpx.ConnectTimeout):
        detail = f"no Ollama at {url}: start it with `ollama serve` or set llm.ollama_url"
        raise CallError(Code.UPSTREAM_DOWN, detail) from None
    except ResponseError as error:
        if "file does not exist" in str(error.error):
            detail = f"Ollama knows no model {model!r}: look for its name at ollama.com/library"
            raise CallError(Code.MODEL_MISSING, detail) from None
        raise _failed(url, str(error.error)) from None
    except (httpx.HTTPError, ValueError, TypeError, AttributeError) as error:
        raise _failed(url, str(error) or type(error).__name__) from None
    finally:
        await client.close()
    if status != "success":
        raise _failed(url, "it stopped before the model was complete; pull again to go on")


def _failed(url: str, detail: str) -> CallError:
    return CallError(Code.UPSTREAM_FAILED, f"Ollama at {url} failed: {' '.join(detail.split())[:300]}")


def _loopback(url: str) -> bool:
    """Whether the address is this machine's own: no proxy is asked for that."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
