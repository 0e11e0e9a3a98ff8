"""Request ids: 16 bytes, ordered by time, usable as a W3C trace-id."""

from __future__ import annotations

import os
import time

from ipc.limits import RID_BYTES


def new_rid() -> bytes:
    """A fresh id in the layout of UUIDv7 (RFC 9562, 5.7): 48 bits of Unix ms, then random."""
    stamp = time.time_ns() // 1_000_000 & (1 << 48) - 1
    raw = bytearray(stamp.to_bytes(6, "big") + os.urandom(RID_BYTES - 6))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


BOOT_ID = os.urandom(RID_BYTES)
"""Names this run of this process: a peer that sees another one knows that it restarted."""
