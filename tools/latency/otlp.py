"""Turns as OpenTelemetry spans, in requests for a collector.

A turn is a trace under its own request id: a span `turn` of dialog, its stages as children under the daemon that
spends the time (`service.name`), and moments as events. Ids follow from what is exported: sent twice, it is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtelSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tools.latency.exporting import LEADER, MOMENTS, extents, owner, unix_ns
from tools.latency.turns import Span, Turn

ROOT = "turn"
SCOPE = "timmy.latency"

BATCH_SPANS = 1_000
"""Spans of a request, and those of the turn that goes over it: some 200 kB, where collectors take 4 MB."""

_SPAN_ID_BYTES = 8


class Batch:
    """The turns of one request."""

    def __init__(self) -> None:
        self.turns = 0
        self.spans = 0
        self._by_daemon: dict[str, list[OtelSpan]] = {}

    def add(self, turn: Turn) -> None:
        self.turns += 1
        for daemon, span in _spans(turn):
            self.spans += 1
            self._by_daemon.setdefault(daemon, []).append(span)

    def request(self) -> ExportTraceServiceRequest:
        request = ExportTraceServiceRequest()
        for daemon, spans in self._by_daemon.items():
            resource = request.resource_spans.add()
            resource.resource.attributes.extend(_attributes({"service.name": f"timmy-{daemon}"}))
            scope = resource.scope_spans.add()
            scope.scope.name = SCOPE
            scope.spans.extend(spans)
        return request


def batches(turns: Iterable[Turn]) -> Iterator[Batch]:
    """The turns in their order, none of them divided. One batch is held at a time."""
    batch = Batch()
    for turn in turns:
        batch.add(turn)
        if batch.spans >= BATCH_SPANS:
            yield batch
            batch = Batch()
    if batch.spans:
        yield batch


def _spans(turn: Turn) -> Iterator[tuple[str, OtelSpan]]:
    """The spans of a turn and the daemon of each, first that of the whole turn."""
    times = extents(turn).values()
    root = _span(turn, ROOT, ROOT, min(start for start, _ in times), max(end for _, end in times))
    root.attributes.extend(_attributes(_about(turn)))
    for mark in turn.marks:
        if mark.stage in MOMENTS:
            event = root.events.add(name=mark.stage.name.lower(), time_unix_nano=unix_ns(turn, mark.t_ns))
            event.attributes.extend(_attributes({"timmy.daemon": mark.daemon}))
            if key := MOMENTS[mark.stage]:
                event.attributes.extend(_attributes({f"timmy.{key}": mark.arg}))
    if turn.outcome == "failed":
        root.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="the turn failed"))
    yield LEADER, root
    for span in turn.spans:
        key = f"{span.stage} {span.daemon} {span.to_daemon} {span.start_ns}"
        child = _span(turn, span.stage, key, span.start_ns, span.end_ns)
        child.parent_span_id = root.span_id
        child.attributes.extend(_attributes(_details(turn, span)))
        yield owner(span), child


def _span(turn: Turn, name: str, key: str, start_ns: int, end_ns: int) -> OtelSpan:
    """`key` is what tells it from the other spans of its turn: its id is made of both."""
    return OtelSpan(
        trace_id=turn.rid,
        span_id=hashlib.blake2b(turn.rid + key.encode(), digest_size=_SPAN_ID_BYTES).digest(),
        name=name,
        kind=OtelSpan.SPAN_KIND_INTERNAL,
        start_time_unix_nano=unix_ns(turn, start_ns),
        end_time_unix_nano=unix_ns(turn, end_ns),
    )


def _about(turn: Turn) -> dict[str, object]:
    return {
        "gen_ai.conversation.id": turn.conversation or None,
        "timmy.outcome": turn.outcome,
        "timmy.typed": turn.typed,
        "timmy.complete": turn.complete,
        "timmy.first_audio_ms": turn.first_audio_ms,
        "timmy.words": turn.words,
        "timmy.memories": turn.memories,
    }


def _details(turn: Turn, span: Span) -> dict[str, object]:
    details: dict[str, object] = {"timmy.share_ms": span.share_ns / 1e6, "timmy.to": span.to_daemon or None}
    if span.stage == "llm_first_token":
        # Of the one call to the model in a turn, so that a sum over spans counts nothing twice.
        details["gen_ai.operation.name"] = "chat"
        details["gen_ai.conversation.id"] = turn.conversation or None
        details["gen_ai.usage.input_tokens"] = turn.prompt_tokens
        details["gen_ai.usage.cache_read.input_tokens"] = turn.cached_tokens
    return details


def _attributes(values: Mapping[str, object]) -> Iterator[KeyValue]:
    """What is None is not known and left out."""
    for key, value in values.items():
        if value is None:
            continue
        attribute = KeyValue(key=key)
        if isinstance(value, bool):
            attribute.value.bool_value = value
        elif isinstance(value, int):
            attribute.value.int_value = value
        elif isinstance(value, float):
            attribute.value.double_value = value
        else:
            attribute.value.string_value = str(value)
        yield attribute
