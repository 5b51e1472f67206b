"""A graph of ONNX's operators under construction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto


class Graph:
    """The nodes and constants of a graph under construction; values are identified by name."""

    def __init__(self) -> None:
        self.member = ""  # prefix of names that would be the same in each member of an ensemble
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, array: npt.NDArray[np.generic], name: str = "") -> str:
        """Add an array, and return its name."""
        from onnx import numpy_helper

        name = self.member + name if name else f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def numbers(self, *values: int) -> str:
        """Add whole numbers, and return their name."""
        return self.constant(np.array(values, np.int64))

    def columns(self, value: str, first: int, end: int = np.iinfo(np.int32).max) -> str:
        """Return ``value[:, first:end]``."""
        return self.add("Slice", value, self.numbers(first), self.numbers(end), self.numbers(1))

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """Add a node, and return its only output."""
        return self.add_all(operator, *inputs, outputs=[output or self._name()], **attributes)[0]

    def add_all(
        self, operator: str, *inputs: str, outputs: list[str], **attributes: object
    ) -> list[str]:
        """Add a node with several outputs, and return them."""
        from onnx import helper

        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, outputs, name, **attributes))
        return outputs

    def _name(self) -> str:
        return f"value_{len(self.nodes)}"
