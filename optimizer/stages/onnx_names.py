"""Gives the inputs and outputs of an ONNX graph their names, moving away whatever has them; drops its notes. Needs onnx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import AttributeProto, GraphProto, ModelProto


def set_names(model: ModelProto, wanted: Mapping[str, str]) -> None:
    """Rename values in place, in all subgraphs. A value inside that has a wanted name gets another one first."""
    taken = {name for graph in _graphs(model.graph) for name in _names(graph)} - set(wanted)
    renames = dict(wanted)
    for name in sorted(taken & set(wanted.values())):
        renames[name] = _free(name, taken | set(wanted.values()))
    for graph in _graphs(model.graph):
        _rename(graph, renames)
    drop_notes(model)


def _free(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_inner{number}" in taken:
        number += 1
    return f"{name}_inner{number}"


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)


def _names(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.output
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        yield from (value.name for value in values)


def _rename(graph: GraphProto, renames: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [renames.get(name, name) for name in node.input]
        node.output[:] = [renames.get(name, name) for name in node.output]
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        for value in values:
            value.name = renames.get(value.name, value.name)


def drop_notes(model: ModelProto) -> None:
    """Take out the stack traces of the exporting machine: they would change the file without changing the model."""
    for graph in _graphs(model.graph):
        _drop_graph_notes(graph)


def _drop_graph_notes(graph: GraphProto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for values in (graph.input, graph.output, graph.value_info):
        for value in values:
            value.doc_string = ""
            del value.metadata_props[:]
