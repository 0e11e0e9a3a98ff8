"""Writes vectors.json anew: python -m tests.protocol.make_vectors

Only after the wire was changed on purpose: the committed file is what other implementations hold on to.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ipc.codec import encode
from ipc.messages import REGISTRY
from tests.protocol.shapes import CASES, example, to_json

FILE = Path(__file__).with_name("vectors.json")


def vectors() -> list[dict[str, Any]]:
    made = []
    for name in REGISTRY:
        for case in CASES:
            message = example(name, case)
            frames = [frame.hex() for frame in encode(message)]
            made.append({"type": name, "case": case, "message": to_json(message), "frames": frames})
    return made


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in vectors())
    FILE.write_text(f"[\n{lines}\n]\n", "utf-8")
