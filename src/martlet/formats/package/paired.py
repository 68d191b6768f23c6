"""A pair: a graph and the model that it was made from, each for the calls that it answers best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import DType, Signature, Tensor, Tensors


class Paired:
    """
    A package's graph, and its original. Answers as the original does, by every signature of it.

    The graph answers calls of *rows* rows and more, by the one signature that it was made from. The
    original answers all others: fewer rows, other signatures, an input that was left out, a missing
    text; and calls that the graph refuses, since the original says which row and why.

    Args:
        graph: Answers many rows.
        original: What it was made from.
        name: The signature's name.
        rows: The number of rows from which on the graph answers.

    Raises:
        UnsupportedModel: the two do not go together.
    """

    def __init__(self, graph: Servable, original: Servable, name: str, rows: int) -> None:
        self.original = original
        self._graph = graph
        self._name = name
        self._rows = rows
        self.signatures: Mapping[str, Signature] = original.signatures
        if name not in original.signatures or name not in graph.signatures:
            raise UnsupportedModel(f"the original has no signature {name!r}, which its graph has")
        whole, own = original.signatures[name], graph.signatures[name]
        # What a graph has no way to say is why a row has no answer: no row of its lacks one.
        self._blank = [name for name in whole.outputs if name not in own.outputs]
        texts = all(whole.outputs[name].dtype is DType.STRING for name in self._blank)
        if not texts or own.inputs.keys() != whole.inputs.keys():
            raise UnsupportedModel("the original takes and gives other than its graph")
        self._outputs = list(whole.outputs)
        self._inputs = list(whole.inputs)
        self._texts = [n for n, spec in whole.inputs.items() if spec.dtype is DType.STRING]

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Answer by the graph where it may, else by the original. Raises what the original does."""
        if signature_name != self._name or not self._for_graph(inputs):
            return self.original.predict(inputs, signature_name)
        try:
            found = self._graph.predict(inputs, signature_name)
        except InvalidInput:
            return self.original.predict(inputs, signature_name)
        for name in self._blank:
            found[name] = np.full(len(inputs[self._inputs[0]]), None, object)
        return {name: found[name] for name in self._outputs}

    def _for_graph(self, inputs: Tensors) -> bool:
        if len(inputs) < len(self._inputs):
            return False
        rows = len(inputs[self._inputs[0]])
        if rows < self._rows or any(len(value) != rows for value in inputs.values()):
            return False
        for name in self._texts:
            values = inputs[name].tolist()
            if None in values or "" in values or b"" in values:
                return False
        return True

    def close(self) -> None:
        """Close both."""
        self._graph.close()
        self.original.close()
