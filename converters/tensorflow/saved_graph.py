"""What the graph of a SavedModel says of an encoder and its variables do not: how often a layer is applied, and how.

The graph is data to be searched, never run. A variable's uses are counted along the edges from a signature's outputs,
through the functions that call one another (tensorflow/core/protobuf/meta_graph.proto, framework/graph.proto,
framework/function.proto, framework/node_def.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from converters.config import parse_json
from converters.errors import ConfigError, CorruptError
from converters.tensorflow import wire

# Functions call a few others in turn; no model has as many uses of one layer.
_MOST_CALLS = 64
_MOST_USES = 4096
_MOST_NODES = 2**17

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_READS = ("ReadVariableOp", "ResourceGather")
# From a kernel to the output of its layer, without those around it.
_DENSE = ("Identity", "MatMul", "BiasAdd", "Add", "AddV2")
_MOST_STEPS = 8
_HANDLES = ("VarHandleOp", "VariableV2", "Variable")
# The factor in the tanh approximation of the GELU (arXiv 1606.08415).
_GELU_TANH = struct.unpack("<f", struct.pack("<f", 0.044715))[0]
_TOKENIZATION = "tokenization_info"
_SIGNATURES = ("serving_default", "tokens", "default")
_FLOAT, _INT32, _BOOL = 1, 3, 10


class _Unclear(Exception):
    """The graph uses a variable in a way that cannot be counted."""


@dataclass(frozen=True)
class _Node:
    name: str
    op: str
    inputs: tuple[str, ...]
    fields: wire.Fields

    def attribute(self, name: str) -> bytes:
        return wire.entries(self.fields, 5).get(name, b"")


class _Body:
    """The nodes of the graph or of one function; `arguments` are a function's own names of what it is given."""

    def __init__(self, nodes: Iterable[bytes], arguments: tuple[str, ...] = ()) -> None:
        self.arguments = arguments
        self.nodes: dict[str, _Node] = {}
        self.consumers: dict[str, list[tuple[_Node, int]]] = {}
        for data in nodes:
            if len(self.nodes) == _MOST_NODES:
                raise wire.WireError(f"a graph of more than {_MOST_NODES} nodes")
            found = wire.fields(data)
            inputs = tuple(item.decode("utf-8").split(":")[0] for item in wire.messages(found, 3))
            node = _Node(wire.text(found, 1), wire.text(found, 2), inputs, found)
            if node.name in self.nodes:
                raise wire.WireError(f"two nodes of the name {node.name!r}")
            self.nodes[node.name] = node
            for position, producer in enumerate(inputs):
                self.consumers.setdefault(producer, []).append((node, position))


class SavedGraph:
    """The graph in the bytes of a `saved_model.pb`; CorruptError where it cannot be taken apart."""

    def __init__(self, data: bytes, where: str) -> None:
        self._where = where
        try:
            self._open(data)
        except wire.FAULTS as error:
            raise self._corrupt(error) from None

    def _open(self, data: bytes) -> None:
        graphs = [wire.fields(item) for item in wire.messages(wire.fields(data), 2)]
        if not graphs:
            raise wire.WireError("no graph in it")
        self._meta = min(graphs, key=_tags)  # a module for training has a graph more, tagged so
        graph = wire.fields(wire.message(self._meta.get(2, [b""])[-1]))
        library = wire.fields(wire.message(graph.get(2, [b""])[-1]))
        self._functions = {}
        for item in wire.messages(library, 1):
            function = wire.fields(item)
            self._functions[wire.text(wire.fields(wire.message(function.get(1, [b""])[-1])), 1)] = function
        self._bodies: dict[str, _Body] = {}
        self._counts: dict[tuple[int, str, bool], int] = {}  # by body, node and whether it gives a handle
        self._graph = _Body(wire.messages(graph, 1))
        self._live = self._ancestors(self._outputs())

    def uses(self, variable: str) -> int | None:
        """How often one pass through the graph reads a variable; None if that cannot be determined."""
        nodes = [self._graph.nodes[name] for name in _aliases(variable) if name in self._graph.nodes]
        if not nodes or nodes[0].op not in _HANDLES:
            return None
        try:
            return self._uses(self._graph, nodes[0].name, nodes[0].op == "VarHandleOp", 0) or None
        except _Unclear:
            return None
        except wire.FAULTS as error:
            raise self._corrupt(error) from None

    def reshaped(self, variable: str) -> list[int] | None:
        """The shape that the graph gives a variable before it is used, where it does so."""
        try:
            names = [name for name in _aliases(variable) if name in self._graph.nodes]
            readers = [node for name in names for node, _ in self._graph.consumers.get(name, ())]
            readers = [reader for reader in readers if reader.name in self._live]
            for reader in readers:
                for node, position in self._graph.consumers.get(reader.name, ()):
                    if node.op == "Reshape" and position == 0 and len(node.inputs) > 1:
                        shape = self._graph.nodes.get(node.inputs[1])
                        return _integers(shape) if shape and shape.op == "Const" else None
        except wire.FAULTS as error:
            raise self._corrupt(error) from None
        return None

    def reshaped_output(self, kernel: str) -> tuple[int, int] | None:
        """The last two sizes of the four that the graph gives to what a dense layer computes, where it does so."""
        try:
            names = [name for name in _aliases(kernel) if name in self._graph.nodes]
            for _ in range(_MOST_STEPS):
                found = [item for name in names for item in self._graph.consumers.get(name, ())]
                found = [(node, position) for node, position in found if node.name in self._live]
                shapes = (self._sizes(node.inputs[1]) for node, at in found if node.op == "Reshape" and at == 0)
                if shape := next((shape for shape in shapes if shape is not None), None):
                    return shape
                names = [node.name for node, _ in found if node.op in (*_READS, *_DENSE)]
        except wire.FAULTS as error:
            raise self._corrupt(error) from None
        return None

    def _sizes(self, name: str) -> tuple[int, int] | None:
        """The last two of four sizes, which are constants where the first two depend on the input."""
        node = self._graph.nodes.get(name)
        if node is None or node.op not in ("Const", "Pack"):
            return None
        if node.op == "Const":
            sizes = _integers(node) or []
            return (sizes[2], sizes[3]) if len(sizes) == 4 else None
        parts = [self._graph.nodes.get(item) for item in node.inputs if not item.startswith("^")]
        last = [_integer(part) if part and part.op == "Const" else None for part in parts[2:]]
        return (last[0], last[1]) if len(last) == 2 and last[0] is not None and last[1] is not None else None

    def lowercase(self) -> bool | None:
        """Whether the text is to be lower-cased, as TF1 modules say in a signature of their own; None in others."""
        try:
            signatures = wire.entries(self._meta, 5)
            outputs = wire.entries(wire.fields(signatures.get(_TOKENIZATION, b"")), 2)
            if "do_lower_case" not in outputs:
                return None
            name = wire.text(wire.fields(outputs["do_lower_case"]), 1).split(":")[0]
            nodes = [self._graph.nodes[item] for item in self._ancestors([name])]
            said = [value for node in nodes if node.op == "Const" and (value := _boolean(node)) is not None]
        except wire.FAULTS as error:
            raise self._corrupt(error) from None
        return said[0] if len(said) == 1 else None

    def activation(self) -> str | None:
        """Hugging Face's name of the feed-forward layers' activation, recognised by what only that one computes."""
        try:
            nodes = [node for _, node in self._reached()]
            if any(node.op == "Const" and _number(node) == _GELU_TANH for node in nodes):
                return "gelu_new"
        except wire.FAULTS as error:
            raise self._corrupt(error) from None
        seen = {node.op for node in nodes}
        found = [name for op, name in (("Erf", "gelu"), ("Erfc", "gelu"), ("Relu", "relu")) if op in seen]
        return found[0] if len(set(found)) == 1 else None

    def epsilon(self) -> float | None:
        """The epsilon of the LayerNorms: what is added before a reciprocal square root; None unless all agree."""
        found = set()
        try:
            for body, node in self._reached():
                if node.op == "Rsqrt" and node.inputs and (added := body.nodes.get(node.inputs[0])):
                    parts = [body.nodes.get(name) for name in added.inputs] if added.op in ("Add", "AddV2") else []
                    found |= {_number(part) for part in parts if part and part.op == "Const"}
        except wire.FAULTS as error:
            raise self._corrupt(error) from None
        # A float32's shortest decimal form, as the config of Google's has it.
        return float(f"{found.pop():.7g}") if len(found) == 1 and None not in found else None

    def keras_settings(self, metadata: bytes | None) -> dict[str, Any]:
        """The settings of the Keras encoder, kept in the graph's objects or (since TensorFlow 2.5) beside them."""
        try:
            objects = wire.fields(wire.message(self._meta.get(7, [b""])[-1]))
            users = [wire.fields(item).get(4, [b""])[-1] for item in wire.messages(objects, 1)]
            texts = [wire.fields(wire.message(item)).get(3, [b""])[-1] for item in users]
            texts += [wire.fields(item).get(5, [b""])[-1] for item in wire.messages(wire.fields(metadata or b""), 1)]
        except wire.FAULTS as error:
            raise self._corrupt(error) from None
        for item in texts:
            if isinstance(item, bytes) and b'"num_attention_heads"' in item and b'"num_layers"' in item:
                try:
                    for settings in _objects(parse_json(item, self._where)):
                        if {"num_attention_heads", "num_layers"} <= settings.keys():
                            return settings
                except ConfigError as error:
                    raise self._corrupt(ValueError(error.detail)) from None
        return {}

    def _outputs(self) -> list[str]:
        """The nodes that one signature's outputs come from."""
        signatures = wire.entries(self._meta, 5)
        for name in (*_SIGNATURES, *sorted(signatures)):
            outputs = wire.entries(wire.fields(signatures[name]), 2) if name in signatures else {}
            found = [wire.text(wire.fields(item), 1).split(":")[0] for item in outputs.values()]
            if found and not name.startswith("__"):
                return found
        return []

    def _ancestors(self, names: list[str]) -> set[str]:
        """All nodes of the graph that the named ones depend on, and these."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found and name in self._graph.nodes:
                found.add(name)
                waiting += [item for item in self._graph.nodes[name].inputs if not item.startswith("^")]
        return found

    def _reached(self) -> Iterator[tuple[_Body, _Node]]:
        """Every node that the outputs depend on, those of the functions called included."""
        waiting = [(self._graph, self._graph.nodes[name]) for name in sorted(self._live)]
        entered: set[str] = set()
        while waiting:
            body, node = waiting.pop()
            yield body, node
            if node.op in _CALLS and (name := _callee(node)) not in entered:
                entered.add(name)
                inner = self._body(name)
                waiting += [(inner, item) for item in inner.nodes.values()]

    def _uses(self, body: _Body, producer: str, handle: bool, depth: int) -> int:
        """How often what a node gives is read; each node is counted once, however many ways lead to it."""
        key = id(body), producer, handle
        if key not in self._counts:
            self._counts[key] = self._counted(body, producer, handle, depth)
        return self._counts[key]

    def _counted(self, body: _Body, producer: str, handle: bool, depth: int) -> int:
        if depth > _MOST_CALLS:
            raise wire.WireError("its functions call one another without end")
        total = 0
        for node, position in body.consumers.get(producer, ()):
            if body is self._graph and node.name not in self._live:
                continue
            if node.op == "Identity":
                total += self._uses(body, node.name, handle, depth + 1)
            elif node.op in _CALLS:
                total += self._uses_in(_callee(node), position, handle, depth + 1)
            elif not handle or node.op in _READS:
                total += 1
            else:
                raise _Unclear
            if total > _MOST_USES:
                raise _Unclear
        return total

    def _uses_in(self, name: str, position: int, handle: bool, depth: int) -> int:
        body = self._body(name)
        if position >= len(body.arguments):
            raise wire.WireError(f"function {name} is given more than it takes")
        return self._uses(body, body.arguments[position], handle, depth)

    def _body(self, name: str) -> _Body:
        if name not in self._bodies:
            if name not in self._functions:
                raise wire.WireError(f"function {name} is called and missing")
            function = self._functions[name]
            signature = wire.fields(wire.message(function.get(1, [b""])[-1]))
            arguments = tuple(wire.text(wire.fields(item), 1) for item in wire.messages(signature, 2))
            self._bodies[name] = _Body(wire.messages(function, 3), arguments)
        return self._bodies[name]

    def _corrupt(self, error: Exception) -> CorruptError:
        return CorruptError(self._where, f"not a sound SavedModel ({error})")


def _tags(meta: wire.Fields) -> int:
    return len(wire.fields(wire.message(meta.get(1, [b""])[-1])).get(4, []))


def _aliases(variable: str) -> tuple[str, ...]:
    """The names that a variable's node may have: TF-Hub puts TF1 modules under `module/`, or takes that away."""
    return variable, f"module/{variable}"


def _callee(node: _Node) -> str:
    return wire.text(wire.fields(wire.message(wire.fields(node.attribute("f")).get(10, [b""])[-1])), 1)


def _tensor(node: _Node) -> wire.Fields:
    return wire.fields(wire.message(wire.fields(node.attribute("value")).get(8, [b""])[-1]))


def _number(node: _Node) -> float | None:
    """The value of a constant that is one float32."""
    tensor = _tensor(node)
    if wire.number(tensor, 1) != _FLOAT:
        return None
    raw = tensor.get(4) or tensor.get(5) or [b""]
    data = raw[-1] if isinstance(raw[-1], bytes) else struct.pack("<I", raw[-1])
    return float(struct.unpack("<f", data)[0]) if len(data) == 4 else None


def _integers(node: _Node) -> list[int] | None:
    """The values of a constant row of int32."""
    tensor = _tensor(node)
    if wire.number(tensor, 1) != _INT32:
        return None
    if 4 in tensor:
        data = wire.message(tensor[4][-1])
        return list(struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4]))
    return None


def _integer(node: _Node) -> int | None:
    """The value of a constant that is one int32 from 0 up."""
    row = _integers(node)
    if row is not None:
        return row[0] if len(row) == 1 else None
    tensor = _tensor(node)
    return _first(tensor, 7) if wire.number(tensor, 1) == _INT32 else None


def _boolean(node: _Node) -> bool | None:
    """The value of a constant that is one bool."""
    tensor = _tensor(node)
    if wire.number(tensor, 1) != _BOOL:
        return None
    if 4 in tensor:
        return any(wire.message(tensor[4][-1]))
    return bool(_first(tensor, 11))


def _first(tensor: wire.Fields, field: int) -> int:
    """The first of the numbers in a field, packed or not; 0, which may be left out, without any."""
    value = tensor.get(field, [0])[-1]
    return value if isinstance(value, int) else wire.varint(value, 0)[0] if value else 0


def _objects(data: Any) -> Iterator[dict[str, Any]]:
    """All objects in a JSON document, outer ones first."""
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
