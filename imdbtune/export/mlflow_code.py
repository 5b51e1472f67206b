"""A model that takes raw text, as MLflow's "models from code": copied, and run by MLflow alone."""

import importlib.util
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class ReviewModel(mlflow.pyfunc.PythonModel):
    """Reviews to labels, by the Keras model of an export."""

    def load_context(self, context: Any) -> None:
        """Open the export that lies among the model's artifacts."""
        import keras

        folder = Path(context.artifacts["export"])
        spec = importlib.util.spec_from_file_location("review_encode", folder / "encode.py")
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        self.encode = module.encode
        self.labels = module.read(folder, "metadata.json")["labels"]
        self.model = keras.models.load_model(folder / "model.keras", compile=False)

    def predict(self, model_input: list[str]) -> pd.DataFrame:
        """``label`` of each text, and ``probability`` (that it is the second of the labels)."""
        import numpy as np

        ids = [self.encode(text) for text in model_input]
        chances = self.model.predict(np.array(ids, dtype="int32"), verbose=0)[:, 0] if ids else []
        labels = [self.labels[int(chance >= 0.5)] for chance in chances]
        return pd.DataFrame({"label": labels, "probability": np.asarray(chances, dtype=float)})


mlflow.models.set_model(ReviewModel())
