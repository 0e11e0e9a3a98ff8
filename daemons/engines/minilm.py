"""The embedder: a sentence transformer in ONNX (all-MiniLM-L6-v2), mean-pooled to unit vectors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from daemons.catalogue import resolve
from daemons.engines.base import EngineError, EngineInfo
from ipc.errors import Code

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_TOKENS = 256  # what the model was trained on; the rest of a longer text is not seen
_BATCH = 32

KNOWN_SENTENCE = "The spare key is under the blue flower pot."
KNOWN_START = (-0.0055, 0.0431, -0.0042, 0.0022)
"""First components of that sentence's vector by the model "minilm"."""
_TOLERANCE = 0.005


class MiniLm:
    """An Embedder. Raises EngineError(MODEL_MISSING | MODEL_DAMAGED | ENGINE_FAILED) when it cannot be made.

    Any sentence transformer with mean pooling will do; "minilm" must also give its known answer.
    """

    def __init__(self, model: str = "minilm", threads: int = 1) -> None:
        folder = resolve("embedding", model, sums=True)
        try:
            self._session = _session(str(folder / "model.onnx"), threads)
            self._tokenizer = _tokenizer(str(folder / "tokenizer.json"))
        except Exception as error:  # both libraries raise plain Exception for a file that they cannot parse
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise EngineError(
                Code.MODEL_DAMAGED,
                f"embedding model {model!r} cannot be loaded ({reason}); fetch it again: timmy models pull {model}",
            ) from None
        self.info = EngineInfo("onnxruntime", model, "cpu int8")
        self._wanted = {entry.name for entry in self._session.get_inputs()}
        known = self.embed([KNOWN_SENTENCE])[0]
        self.dimensions = len(known)
        if model == "minilm" and not _close(known, KNOWN_START):
            raise EngineError(
                Code.MODEL_DAMAGED,
                f"embedding model {model!r} computes wrong numbers: check it with `timmy models verify`",
            )
        _give_back_free_memory()

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _BATCH):
            vectors += self._embed(texts[start : start + _BATCH]).tolist()
        return vectors

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        encoded = self._tokenizer.encode_batch(list(texts))
        ids = np.array([item.ids for item in encoded], np.int64)
        mask = np.array([item.attention_mask for item in encoded], np.int64)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        given = {name: inputs[name] for name in inputs if name in self._wanted}
        hidden: NDArray[np.float32] = self._session.run(None, given)[0]
        weights = mask[..., None].astype(np.float32)
        pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        unit: NDArray[np.float32] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit


def _session(path: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena keeps the largest batch for ever: 850 MB after 32 long texts
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _tokenizer(path: str) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer


def _close(vector: Sequence[float], start: Sequence[float]) -> bool:
    return all(abs(is_ - should) < _TOLERANCE for is_, should in zip(vector, start, strict=False))


def _give_back_free_memory() -> None:
    """Loading leaves a quarter of the daemon's memory free but not returned (glibc; others return it themselves)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
