"""The interface of a recurrent cell.

Notation of all cells: ``projected`` or ``p`` is the input's contribution to the gates,
``x·W + b``, (batch, gates * units). Gates are concatenated in Keras's order. Activations are
Keras's defaults: tanh, and the sigmoid for gates. ``d_a`` is the gradient of the loss to ``a``.

The gradients are the chain rule for one step of backpropagation through time (Werbos 1990): a
sigmoid s has the derivative s(1 - s), a tanh t the derivative 1 - t^2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from imdbtune.models.numpy_reference import NumpyCell, State

if TYPE_CHECKING:
    import keras

    from imdbtune.models.tensors import Tensor, Tensors


class Forward(Protocol):
    """One time step in TensorFlow. States and saved tensors are (batch, units).

    XLA compiles the formula of a tensor to one vectorised loop if it reads at most one slice of
    any other tensor. So split a product into its gates before you use it.
    """

    def __call__(
        self, projected: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], /
    ) -> tuple[Tensors, Tensors]:
        """Return the new states, and the tensors that :class:`Backward` needs.

        Args:
            projected: the input's contribution.
            states: of the step before; the first is the output.
            weights: the recurrent kernel, and the recurrent bias if Keras's layer has one.
        """


class Backward(Protocol):
    """The gradient of :class:`Forward`."""

    def __call__(
        self,
        d_new: Sequence[Tensor],
        states: Sequence[Tensor],
        new: Sequence[Tensor],
        saved: Sequence[Tensor],
        weights: Sequence[Tensor],
        /,
    ) -> tuple[Tensor, Tensors, Tensors]:
        """Return the gradients to ``projected``, ``states`` and ``weights``.

        Args:
            d_new: the gradients to the ``new`` states.
            states: of the step before.
            new: the states that the forward step returned.
            saved: the tensors that it saved.
            weights: as in :class:`Forward`.
        """


@dataclass(frozen=True)
class OnnxOperator:
    """The operator of ONNX that computes a whole layer of this cell."""

    name: str
    gate_order: tuple[int, ...]  # for each gate of the operator its number in Keras's order
    attributes: Mapping[str, int] = field(default_factory=dict)  # beyond size and direction
    activations: tuple[str, ...] = ()  # of one direction; by default the operator's own


@dataclass(frozen=True)
class Cell:
    """One kind of recurrent layer.

    The layer is one of Keras's own, with a ``kernel``, a ``recurrent_kernel`` and a ``bias``, so
    that saved models and exports open without this package. A bias of two rows is the input's and
    the recurrent one. All other members must compute the same as this layer; the contract tests
    compare them.

    ``numpy_step`` maps ``(projected, states, recurrent_kernel)``, and the recurrent bias if there
    is one, to the new states. The export ``numpy`` copies its source: it uses nothing but ``np``
    and names of :mod:`imdbtune.models.numpy_reference`, and its name occurs in no other cell.
    """

    about: str  # its name and source, in one line
    keras_class: str  # a layer in keras.layers; with "Cell" appended, the cell of the layer
    gates: int  # blocks of columns of the kernels, to which the time of a step is proportional
    states: int  # the first is the output
    saved: int  # number of tensors that forward passes to backward
    forward: Forward
    backward: Backward
    numpy_step: Callable[..., State]
    onnx: OnnxOperator
    # Of the layer's constructor.
    keras_options: Mapping[str, bool | str] = field(default_factory=dict)
    biases: int = 1  # rows of the bias: the input's, and the recurrent one
    has_cudnn: bool = False  # the layer runs on cuDNN where there is an NVIDIA GPU
    # The first of the saved tensors that XLA must not fuse into other loops, see
    # imdbtune.models.scan.
    materialised: int = 0
    bound: float = 1.0  # of the absolute value of an output; finite

    def keras_layer(
        self, units: int, name: str, sequences: bool, with_cudnn: bool = True
    ) -> keras.layers.RNN:
        """Return a layer of Keras, which returns all its outputs if ``sequences``.

        ``with_cudnn`` must be false where padding at the front is masked: cuDNN does not support
        that, and Keras would raise on a GPU.
        """
        import keras

        options = dict(self.keras_options)
        if self.has_cudnn and not with_cudnn:
            options["use_cudnn"] = False
        layer_class = getattr(keras.layers, self.keras_class)
        return layer_class(units, return_sequences=sequences, name=name, **options)

    def keras_cell(self, units: int) -> keras.layers.Layer:
        """Return the cell of such a layer, with the same weights."""
        import keras

        return getattr(keras.layers, f"{self.keras_class}Cell")(units, **self.keras_options)

    @property
    def numpy(self) -> NumpyCell:
        """The cell for the functions of :mod:`imdbtune.models.numpy_reference`."""
        return NumpyCell(self.numpy_step, self.states, self.bound)
