"""A model of raw text for MLflow's "models from code": MLflow copies this file and runs it."""

import importlib.util
import runpy
from pathlib import Path

import mlflow
import pandas as pd


class ReviewModel(mlflow.pyfunc.PythonModel):
    """Classify reviews with the Keras model of an export."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Load the export in the model's artifacts."""
        import keras

        folder = Path(context.artifacts["export"])
        spec = importlib.util.spec_from_file_location("review_encode", folder / "encode.py")
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        self.encode = module.encode
        self.labels = module.read(folder, "metadata.json")["labels"]
        own = folder / "own_model.py"  # the source of the model's own layers, if it has any
        known = runpy.run_path(str(own), run_name="own_model").values() if own.exists() else []
        named = [value for value in known if hasattr(value, "__name__")]
        self.model = keras.models.load_model(
            folder / "model.keras",
            custom_objects={keras.saving.get_registered_name(each): each for each in named},
            compile=False,
        )

    def predict(self, model_input: list[str]) -> pd.DataFrame:
        """Return ``label`` and ``probability`` (of the second label) of each text.

        With more than two labels, it is the probability of the label in that row, and a column
        for each label, such as ``probability of sports``, has its probability.
        """
        import numpy as np

        ids = np.array([self.encode(text) for text in model_input], dtype="int32")
        if len(self.labels) > 2:
            found = (
                self.model.predict(ids, verbose=0) if len(ids) else np.empty((0, len(self.labels)))
            )
            table = {
                "label": [self.labels[number] for number in found.argmax(axis=1)],
                "probability": found.max(axis=1).astype(float),
            }
            for number, label in enumerate(self.labels):
                table[f"probability of {label}"] = found[:, number].astype(float)
            return pd.DataFrame(table)
        predicted = self.model.predict(ids, verbose=0)[:, 0] if len(ids) else []
        labels = [self.labels[int(probability >= 0.5)] for probability in predicted]
        return pd.DataFrame({"label": labels, "probability": np.asarray(predicted, dtype=float)})


mlflow.models.set_model(ReviewModel())
