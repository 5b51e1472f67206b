"""Export as an MLflow model of raw text, to serve or register."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
from pathlib import Path

from imdbtune.export.folder import ENCODE, METADATA, VOCABULARY, Export, read_export, write_json
from imdbtune.export.format import Format, Run, Trained
from imdbtune.export.keras_format import KERAS

MODEL = "mlflow_model"
CODE = Path(__file__).with_name("mlflow_code.py")  # not imported: it declares a model
EXAMPLE = ["A wonderful film, and so well played.", "Two hours of boredom."]
INNER = Path("artifacts", "export")  # an export in the format keras, which the model loads

_USAGE = """\
## MLflow: raw text

```python
import mlflow

model = mlflow.pyfunc.load_model("mlflow_model")


def probabilities(texts):
    return model.predict(list(texts))["probability"]


print(probabilities(["A wonderful film, and so well played.", "Two hours of boredom."]))
```

```text
mlflow models serve -m mlflow_model --env-manager local --port 5001
curl localhost:5001/invocations -H "Content-Type: application/json" -d '{"inputs": ["good film"]}'
```
"""


def _write(trained: Trained, folder: Path) -> None:
    """Save a model from code: a source file, with an export as artifact and without pickles."""
    import mlflow

    packages = ("mlflow", "tensorflow", "keras", "numpy")
    with tempfile.TemporaryDirectory() as scratch:
        inner = Path(scratch, "export")
        inner.mkdir()
        KERAS.write(trained, inner)
        for name in (VOCABULARY, ENCODE):
            shutil.copyfile(folder / name, inner / name)
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        write_json(inner / METADATA, {**metadata, "formats": {KERAS.name: {}}}, indent=2)
        mlflow.pyfunc.save_model(
            folder / MODEL,
            python_model=str(CODE),
            artifacts={"export": str(inner)},
            input_example=EXAMPLE,
            pip_requirements=[f"{p}=={importlib.metadata.version(p)}" for p in packages],
        )


def _load(export: Export) -> Run:
    """Load with this package's code; no code in the folder is run."""
    return KERAS.load(read_export(export.folder / MODEL / INNER, export.trusted))


def export_in(folder: Path) -> Path:
    """Return the export inside an MLflow model of this format; any other folder unchanged."""
    return (
        folder / INNER if (folder / "MLmodel").is_file() and (folder / INNER).is_dir() else folder
    )


MLFLOW = Format(
    name="mlflow",
    about="mlflow models serve; takes raw text",
    files=(MODEL,),
    write=_write,
    load=_load,
    usage=_USAGE,
    runs_on=("mlflow", "tensorflow", "keras"),
    columns=('["probability"]', ".iloc[:, 2:].to_numpy()"),
)
