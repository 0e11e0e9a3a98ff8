"""Divides the network of a Piper voice in two: what makes a text into frames, and what makes frames into sound.

Piper exports VITS as one graph, which gives its sound as a whole. Its last part, a HiFi-GAN, is made of convolutions:
a stretch of sound depends on the frames near it alone, and can be had early (docs/adr/018-sound-in-pieces.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FIRST_OF_DECODER = "/dec/conv_pre/Conv"
"""The node that Piper's export of VITS begins the decoder with; its first input are the frames."""

_FLOAT = 1  # of ONNX's TensorProto.DataType

# What is read of ONNX's messages (onnx.proto): name, number, "repeated" or not, type. The rest passes through unread.
_SCHEMA: dict[str, tuple[tuple[str, int, bool, str], ...]] = {
    "Model": (
        ("ir_version", 1, False, "int64"),
        ("graph", 7, False, "Graph"),
        ("opset_import", 8, True, "OperatorSet"),
    ),
    "OperatorSet": (("domain", 1, False, "string"), ("version", 2, False, "int64")),
    "Graph": (
        ("node", 1, True, "Node"),
        ("name", 2, False, "string"),
        ("initializer", 5, True, "Tensor"),
        ("input", 11, True, "Value"),
        ("output", 12, True, "Value"),
    ),
    "Node": (
        ("input", 1, True, "string"),
        ("output", 2, True, "string"),
        ("name", 3, False, "string"),
        ("attribute", 5, True, "Attribute"),
    ),
    "Attribute": (("g", 6, False, "Graph"), ("graphs", 11, True, "Graph")),
    "Tensor": (("dims", 1, True, "int64"), ("name", 8, False, "string")),
    "Value": (("name", 1, False, "string"), ("type", 2, False, "Type")),
    "Type": (("tensor_type", 1, False, "TensorType"),),
    "TensorType": (("elem_type", 1, False, "int32"), ("shape", 2, False, "Shape")),
    "Shape": (("dim", 1, True, "Dimension"),),
    "Dimension": (("dim_value", 1, False, "int64"),),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """Two ONNX models. `frames` is an output of the first and an input of the second: float32 [1, channels, frames]."""

    encoder: bytes
    decoder: bytes
    frames: str


def divide(voice: Path) -> Parts | None:
    """None when it is not built as Piper exports its voices: it then speaks as a whole.

    Raises google.protobuf.message.DecodeError when it is no ONNX model.
    """
    model = _message("Model").FromString(voice.read_bytes())
    graph = model.graph
    first = next((node for node in graph.node if node.name == _FIRST_OF_DECODER), None)
    if first is None or len(graph.output) != 1:
        return None
    frames, weight = first.input[:2]
    channels = next((tensor.dims[1] for tensor in graph.initializer if tensor.name == weight), None)
    made_by = {output: at for at, node in enumerate(graph.node) for output in node.output}
    decoding, read = _ancestors(graph.node, made_by, graph.output[0].name, {frames})
    if channels is None or frames not in made_by or graph.input[0].name in read:
        return None
    encoding, _ = _ancestors(graph.node, made_by, frames, set())
    value = _value(frames, channels)
    decoder = _decoder(model, decoding, value)
    _reduce_to_encoder(graph, encoding, value)
    return Parts(model.SerializeToString(), decoder, frames)


def _ancestors(nodes: Any, made_by: dict[str, int], output: str, border: set[str]) -> tuple[set[int], set[str]]:
    """The nodes that `output` is made by, going back to `border`, and all that they read."""
    found: set[int] = set()
    needed: set[str] = set()
    todo = [output]
    while todo:
        at = made_by.get(todo.pop())
        if at is None or at in found:
            continue
        found.add(at)
        reads = set(_reads(nodes[at]))
        needed |= reads
        todo += reads - border
    return found, needed


def _reads(node: Any) -> Iterator[str]:
    """Of a branch or a loop also what its inner graphs read."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)


def _decoder(model: Any, keep: set[int], frames: Any) -> bytes:
    whole, part = model.graph, _message("Model")(ir_version=model.ir_version, opset_import=model.opset_import)
    part.graph.name = whole.name
    part.graph.node.extend(node for at, node in enumerate(whole.node) if at in keep)
    read = {name for node in part.graph.node for name in _reads(node)}
    part.graph.initializer.extend(tensor for tensor in whole.initializer if tensor.name in read)
    part.graph.input.extend([*(each for each in whole.input if each.name in read), frames])
    part.graph.output.extend(whole.output)
    serialized: bytes = part.SerializeToString()
    return serialized


def _reduce_to_encoder(graph: Any, keep: set[int], frames: Any) -> None:
    """In place: most of the weights are the encoder's, and need not be there twice."""
    for at in reversed(range(len(graph.node))):
        if at not in keep:
            del graph.node[at]
    read = {name for node in graph.node for name in _reads(node)}
    for at in reversed(range(len(graph.initializer))):
        if graph.initializer[at].name not in read:
            del graph.initializer[at]
    del graph.output[:]
    graph.output.append(frames)


def _value(name: str, channels: int) -> Any:
    value = _message("Value")(name=name)
    tensor = value.type.tensor_type
    tensor.elem_type = _FLOAT
    for known in ({}, {"dim_value": channels}, {}):
        tensor.shape.dim.add(**known)
    return value


def _message(name: str) -> Any:
    """One of `_SCHEMA`'s classes."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.Default()
    try:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"timmy.{name}"))
    except KeyError:
        pass
    field_type = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": field_type.TYPE_STRING, "int32": field_type.TYPE_INT32, "int64": field_type.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="timmy/onnx.proto", package="timmy", syntax="proto2")
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for field, number, repeated, kind in fields:
            entry = described.field.add(name=field, number=number, type=scalars.get(kind, field_type.TYPE_MESSAGE))
            entry.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if kind in _SCHEMA:
                entry.type_name = f".timmy.{kind}"
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"timmy.{name}"))
