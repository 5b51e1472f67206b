"""Export as ONNX; imdbtune's networks are built from ONNX's recurrent operators, unconverted.

The operators expect padding at the end and the length of each review, so words are moved to the
front of a masked model. One without a mask reads the padding at the front.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from imdbtune.config.extensions import CELLS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.own_model import output_count
from imdbtune.data.corpus import OOV, PAD
from imdbtune.export.folder import Export
from imdbtune.export.format import Format, Network, Run, Trained, Weights
from imdbtune.export.onnx_graph import Graph
from imdbtune.export.onnx_own import write_own
from imdbtune.models.cells.base import OnnxOperator
from imdbtune.models.hashed_bigrams import FIRST_FACTOR, SECOND_FACTOR
from imdbtune.models.hashed_ngrams import END, END_KEY, FACTORS
from imdbtune.models.mix_weights import EPSILON

Array = npt.NDArray[np.float32]

MODEL = "model.onnx"
OPSET = 17  # of 2022, which most runtimes support; with its IR version
IR_VERSION = 8

_USAGE = """\
## ONNX

With `pip install onnxruntime numpy`; any number of reviews, of any length, padding at the front:

```python
import numpy as np
import onnxruntime

from encode import encode

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])


def probabilities(texts):
    ids = np.array([encode(text) for text in texts], dtype="int32")
    return session.run(["probability"], {"ids": ids})[0][:, 0]


print(probabilities(["A wonderful film, and so well played.", "Two hours of boredom."]))
```
"""


def _write(trained: Trained, folder: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    if trained.params.own is not None:
        write_own(trained, folder / MODEL, OPSET)
        return
    graph = Graph()
    _whole_model(graph, trained)
    ids = helper.make_tensor_value_info("ids", TensorProto.INT32, ["batch", "time"])
    shape = ["batch", output_count(trained.classes)]
    output = helper.make_tensor_value_info("probability", TensorProto.FLOAT, shape)
    model = helper.make_model(
        helper.make_graph(graph.nodes, trained.params.label, [ids], [output], graph.constants),
        producer_name="imdbtune",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / MODEL)


def _whole_model(graph: Graph, trained: Trained) -> None:
    """Add the whole model: ``ids`` (batch, time) to ``probability`` (batch, 1 or labels)."""
    probabilities = []
    for number, network in enumerate(trained.networks(), start=1):
        graph.member = f"member_{number}_" if trained.members else ""
        ids = _member_ids(graph, network.params) if trained.members else "ids"
        probabilities.append(_network(graph, network, ids, trained.masked))
    mix = trained.mix()
    if mix is None:
        graph.add("Mean", *probabilities, output="probability")
        return
    bounds = (EPSILON, 1 - EPSILON, 1)
    low, high, one = (graph.constant(np.array(value, np.float32)) for value in bounds)
    probabilities.append(_linear(graph, mix.table))
    clipped = graph.add("Clip", graph.add("Concat", *probabilities, axis=1), low, high)
    odds = graph.add("Div", clipped, graph.add("Sub", one, clipped))
    logit = graph.add("MatMul", graph.add("Log", odds), graph.constant(mix.weights))
    graph.add("Sigmoid", logit, output="probability")


def _linear(graph: Graph, table: npt.NDArray[np.float32]) -> str:
    """Add the linear model of :func:`imdbtune.models.nb_linear_keras.linear_network`."""
    rows = graph.add("Concat", *_feature_rows(graph, "ids", len(table)), axis=1)
    length = graph.add("Gather", graph.add("Shape", rows), graph.numbers(1))
    outputs = ["linear_rows", "linear_order"]
    rows, _ = graph.add_all("TopK", rows, length, outputs=outputs, axis=1, largest=0)
    current, previous = graph.columns(rows, 1), graph.columns(rows, 0, -1)
    is_new = graph.add("Cast", graph.add("Not", graph.add("Equal", current, previous)), to=_FLOAT)
    weights = graph.constant(table[:, 0])
    terms = graph.add("Mul", graph.add("Gather", weights, current), is_new)
    total = graph.add("ReduceSum", terms, graph.numbers(1), keepdims=1)
    return graph.add("Sigmoid", graph.add("Add", total, graph.constant(table[0])))


def _feature_rows(graph: Graph, ids: str, rows: int) -> list[str]:
    """Return :func:`imdbtune.models.hashed_ngrams.feature_rows` of ids (batch, time)."""
    word, found = graph.add("Cast", ids, to=_INT64), []
    later = graph.add("Cast", _following(graph, word, END), to=_BOOL)
    at_end = graph.add("Not", later)
    key, is_known = graph.add("Sub", word, word), graph.add("Equal", word, word)
    one, zero = graph.constant(np.array(1)), graph.constant(np.array(0))
    for factor in FACTORS:
        key = graph.add("Add", key, graph.add("Mul", word, graph.constant(np.array(factor))))
        for unknown in (PAD, OOV):
            equal = graph.add("Equal", word, graph.constant(np.array(unknown)))
            is_known = graph.add("And", is_known, graph.add("Not", equal))
        key_at_end = graph.add("Add", key, graph.constant(np.array(END_KEY)))
        for own, counts in ((key, is_known), (key_at_end, graph.add("And", is_known, at_end))):
            row = graph.add("Mod", own, graph.constant(np.array(rows - 1)))
            found.append(graph.add("Where", counts, graph.add("Add", row, one), zero))
        word = _following(graph, word)
    return found


def _member_ids(graph: Graph, params: TrialParams) -> str:
    """Return the ids that a member reads: the last ones, with its own vocabulary."""
    last = graph.columns("ids", -params.maxlen)
    known = graph.add("Less", last, graph.constant(np.array(params.vocabulary, np.int32)))
    return graph.add("Where", known, last, graph.constant(np.array(OOV, np.int32)))


def _network(graph: Graph, network: Network, ids: str, masked: bool) -> str:
    """Add a network: ids (batch, time) to probabilities (batch, 1), or (batch, labels)."""
    params, weights, cell = network.params, network.weights, CELLS[network.params.rnn]
    is_word = graph.add("Cast", graph.add("Cast", ids, to=_BOOL), to=_FLOAT)
    lengths = ""
    if masked:
        ids, is_word, lengths = _move_to_front(graph, ids, is_word)
    embedding = graph.constant(weights["embedding"], "embedding")
    vectors = graph.add("Gather", embedding, ids)
    if "bigrams" in weights:
        pairs = _bigram_ids(graph, ids, len(weights["bigrams"]))
        bigrams = graph.constant(weights["bigrams"], "bigrams")
        vectors = graph.add("Add", vectors, graph.add("Gather", bigrams, pairs))
    if "ngrams" in weights:
        table = graph.constant(weights["ngrams"], "ngrams")
        rows = _feature_rows(graph, ids, len(weights["ngrams"]))
        further = [graph.add("Gather", table, each) for each in rows]
        vectors = graph.add("Concat", vectors, *further, axis=2)
    sequence = graph.add("Transpose", vectors, perm=[1, 0, 2])
    for level in range(1, params.depth + 1):
        sequence, last = _level(graph, cell.onnx, weights, level, sequence, lengths)
    features = last
    if params.pooling != "last":
        features = _pool(graph, network, sequence, is_word, cell.bound)
    if params.skip:
        features = graph.add("Concat", features, _bag(graph, vectors, is_word), axis=1)
    if "norm.gamma" in weights:
        norm = (graph.constant(weights[f"norm.{part}"]) for part in ("gamma", "beta"))
        features = graph.add("LayerNormalization", features, *norm, epsilon=1e-3)
    kernel, bias = (graph.constant(weights[f"output.{part}"]) for part in ("kernel", "bias"))
    logits = graph.add("Gemm", features, kernel, bias)
    if len(weights["output.bias"]) == 1:
        return graph.add("Sigmoid", logits)
    return graph.add("Softmax", logits, axis=1)


_FLOAT, _INT32, _INT64, _BOOL = 1, 6, 7, 9  # type numbers of onnx.TensorProto


def _following(graph: Graph, ids: str, steps: int = 1) -> str:
    """Return the id that comes ``steps`` after each of the ids (batch, time); 0 after the last."""
    return graph.columns(graph.add("Pad", ids, graph.numbers(0, 0, 0, steps)), steps)


def _bigram_ids(graph: Graph, ids: str, buckets: int) -> str:
    """Return :func:`imdbtune.models.hashed_bigrams.bigram_ids` of ids (batch, time)."""

    def number(value: int) -> str:
        return graph.constant(np.array(value, np.int32))

    first = graph.add("Mul", ids, number(FIRST_FACTOR))
    second = graph.add("Mul", _following(graph, ids), number(SECOND_FACTOR))
    hashed = graph.add("Mod", graph.add("Add", first, second), number(buckets - 1))
    pairs = graph.add("Add", hashed, number(1))
    return graph.add("Where", graph.add("Cast", ids, to=_BOOL), pairs, number(0))


def _move_to_front(graph: Graph, ids: str, is_word: str) -> tuple[str, str, str]:
    """Move the padding of each row to its end.

    Returns:
        The ids (batch, time), whether they are words (batch, time), 1.0 or 0.0, and the number of
        words (batch,).
    """
    count = graph.add("ReduceSum", is_word, graph.numbers(1), keepdims=1)
    count = graph.add("Cast", count, to=_INT64)
    time = graph.add("Gather", graph.add("Shape", ids), graph.numbers(1))
    one, zero = graph.constant(np.array(1)), graph.constant(np.array(0))
    positions = graph.add("Range", zero, graph.add("Squeeze", time), one)
    moved = graph.add("Add", positions, graph.add("Sub", time, count))
    ids = graph.add("GatherElements", ids, graph.add("Mod", moved, time), axis=1)
    is_word = graph.add("Cast", graph.add("Cast", ids, to=_BOOL), to=_FLOAT)
    lengths = graph.add("Cast", graph.add("Squeeze", count, graph.numbers(1)), to=_INT32)
    return ids, is_word, lengths


def _level(
    graph: Graph,
    operator: OnnxOperator,
    weights: Weights,
    level: int,
    sequence: str,
    lengths: str,
) -> tuple[str, str]:
    """Add a layer over (time, batch, features).

    Returns:
        All outputs (time, batch, features), and the last ones (batch, features).
    """
    directions = [d for d in ("forward", "backward") if f"{d}_{level}.bias" in weights]
    parts = [
        _onnx_weights(operator.gate_order, weights, f"{direction}_{level}")
        for direction in directions
    ]
    stacked = [graph.constant(np.stack(arrays)) for arrays in zip(*parts, strict=True)]
    units = len(weights[f"forward_{level}.recurrent_kernel"])
    attributes: dict[str, int | list[str]] = dict(operator.attributes)
    if operator.activations:
        attributes["activations"] = [*operator.activations] * len(directions)
    outputs, last = graph.add_all(
        operator.name,
        sequence,
        *stacked,
        lengths,
        outputs=[f"{graph.member}outputs_{level}", f"{graph.member}last_{level}"],
        hidden_size=units,
        direction="bidirectional" if len(directions) == 2 else "forward",
        **attributes,
    )
    shape = graph.numbers(0, 0, len(directions) * units)  # 0 keeps the size
    outputs = graph.add("Reshape", graph.add("Transpose", outputs, perm=[0, 2, 1, 3]), shape)
    last_shape = graph.numbers(0, len(directions) * units)
    return outputs, graph.add("Reshape", graph.add("Transpose", last, perm=[1, 0, 2]), last_shape)


def _onnx_weights(order: tuple[int, ...], weights: Weights, layer: str) -> list[Array]:
    """Return a layer's kernel, recurrent kernel and two biases in the layout of the operators."""

    def reorder(array: Array) -> Array:
        gates = np.split(array, len(order), axis=-1)
        return np.concatenate([gates[number] for number in order], axis=-1)

    bias = weights[f"{layer}.bias"]
    biases = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])
    kernels = [reorder(weights[f"{layer}.{part}"]).T for part in ("kernel", "recurrent_kernel")]
    return [*kernels, reorder(biases).reshape(-1)]


def _pool(graph: Graph, network: Network, sequence: str, is_word: str, bound: float) -> str:
    """Add the poolings over the words of (time, batch, features), as in ``models.pooling``."""
    words = graph.add("Unsqueeze", graph.add("Transpose", is_word, perm=[1, 0]), graph.numbers(2))
    axis, pooled = graph.numbers(0), []
    for name in network.params.pooling.split("_"):
        if name == "max":
            masked = _where(graph, words, sequence, -bound)
            pooled.append(graph.add("ReduceMax", masked, axes=[0], keepdims=0))
            continue
        factors = words
        if name == "attention":
            scores = graph.add("MatMul", sequence, graph.constant(network.weights["attention"]))
            factors = graph.add("Softmax", _where(graph, words, scores, -1e9), axis=0)
        total = graph.add("ReduceSum", graph.add("Mul", sequence, factors), axis, keepdims=0)
        if name == "mean":
            count = graph.add("ReduceSum", words, axis, keepdims=0)
            count = graph.add("Max", count, graph.constant(np.array(1, np.float32)))
            total = graph.add("Div", total, count)
        pooled.append(total)
    return pooled[0] if len(pooled) == 1 else graph.add("Concat", *pooled, axis=1)


def _bag(graph: Graph, vectors: str, is_word: str) -> str:
    """Add the sum of the vectors (batch, time, features) of n words, divided by sqrt(n)."""
    axis = graph.numbers(1)
    words = graph.add("Unsqueeze", is_word, graph.numbers(2))
    total = graph.add("ReduceSum", graph.add("Mul", vectors, words), axis, keepdims=0)
    count = graph.add("ReduceSum", words, axis, keepdims=0)
    count = graph.add("Max", count, graph.constant(np.array(1, np.float32)))
    return graph.add("Div", total, graph.add("Sqrt", count))


def _where(graph: Graph, words: str, values: str, otherwise: float) -> str:
    other = graph.constant(np.array(otherwise, np.float32))
    return graph.add("Where", graph.add("Cast", words, to=_BOOL), values, other)


def _load(export: Export) -> Run:
    import onnxruntime

    cpu = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(export.folder / MODEL, providers=cpu)

    def run(ids: npt.NDArray[np.int32]) -> Array:
        return np.asarray(session.run(["probability"], {"ids": ids})[0], np.float32)

    return run


ONNX = Format(
    name="onnx",
    about="ONNX Runtime, in any language",
    files=(MODEL,),
    write=_write,
    load=_load,
    usage=_USAGE,
    runs_on=("onnxruntime",),
    installed_by=("onnx", "onnxruntime"),
)
