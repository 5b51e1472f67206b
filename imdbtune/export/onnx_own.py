"""Export of a user's own model as ONNX, by Keras's converter.

Its input and output have the names of those of imdbtune's networks, so that both are used alike.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from imdbtune.errors import ExportFailed, first_line
from imdbtune.export.format import Trained

CONVERTER = "tf2onnx"  # that Keras uses


def write_own(trained: Trained, path: Path, opset: int) -> None:
    """Convert a model to ONNX.

    Raises:
        ExportFailed: the converter is not installed, or does not know an operation of the model.
    """
    import onnx
    import tensorflow as tf
    from onnx import helper

    if importlib.util.find_spec(CONVERTER) is None:
        raise ExportFailed(
            f"the format onnx needs {CONVERTER} for a model of your own, which is not installed: "
            "pip install 'imdbtune[onnx]'. Nothing was written."
        )
    signature = [tf.TensorSpec((None, trained.params.maxlen), tf.int32, name="ids")]
    try:
        trained.export(path, format="onnx", input_signature=signature, opset_version=opset)
    except Exception as error:  # the converter raises many types
        raise ExportFailed(
            f"{CONVERTER} cannot convert this model to ONNX ({first_line(error)[:200]}); choose "
            "another format. Nothing was written."
        ) from error
    model = onnx.load(path)
    (converted,) = model.graph.output
    model.graph.node.append(helper.make_node("Identity", [converted.name], ["probability"]))
    converted.name = "probability"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
