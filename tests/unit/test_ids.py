"""Request ids: UUIDv7, ordered by time, usable as a W3C trace-id."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid

from ipc.ids import BOOT_ID, new_rid
from ipc.limits import RID_BYTES


def test_a_rid_is_a_uuid_of_version_7() -> None:
    made = uuid.UUID(bytes=new_rid())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_a_rid_bears_its_time() -> None:
    before = time.time_ns() // 1_000_000
    stamp = int.from_bytes(new_rid()[:6], "big")
    assert before <= stamp <= time.time_ns() // 1_000_000


def test_rids_differ_and_are_no_zero_trace_id() -> None:
    rids = {new_rid() for _ in range(10_000)}
    assert len(rids) == 10_000
    assert {len(rid) for rid in rids} == {RID_BYTES}
    assert bytes(RID_BYTES) not in rids


def test_later_rids_sort_later() -> None:
    first = new_rid()
    time.sleep(0.002)
    assert first < new_rid()


def test_each_run_of_a_process_has_its_own_boot_id() -> None:
    code = "from ipc.ids import BOOT_ID; print(BOOT_ID.hex())"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert len(bytes.fromhex(other)) == len(BOOT_ID) == RID_BYTES
    assert other != BOOT_ID.hex()
