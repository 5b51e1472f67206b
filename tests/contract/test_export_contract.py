"""An exported model means the same with imdbtune and with Keras alone, and is safe to open."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imdbtune.errors import UserError
from imdbtune.export.keras_format import export_keras
from imdbtune.model import plain_model
from imdbtune.params import TrialParams
from imdbtune.predict import Predictor

SMALL: dict[str, Any] = {"vocabulary": 200, "embedding": 8, "units": 4, "maxlen": 30}
WORD_INDEX = {f"w{rank}": rank for rank in range(1, 400)} | {"don't": 400, "": 401, "é": 402}
MODELS = {
    "simple_rnn": (TrialParams(rnn="simple_rnn", **SMALL), "buckets"),
    "lstm both ways, max and mean": (
        TrialParams(rnn="lstm", bidirectional=True, pooling="max_mean", dropout=0.3, **SMALL),
        "buckets",
    ),
    "two gru both ways": (TrialParams(rnn="gru", depth=2, bidirectional=True, **SMALL), "buckets"),
    "two gru, max": (TrialParams(rnn="gru", depth=2, pooling="max", **SMALL), "buckets"),
    "lstm as in the book": (TrialParams(rnn="lstm", **SMALL), "padded"),
    "simple_rnn, mean, padded": (TrialParams(rnn="simple_rnn", pooling="mean", **SMALL), "padded"),
}
TEXTS = [
    "",
    "w1",
    "W5, w6! Don't (w7)... <br />w8",
    "w250 w399 é unheard of",
    "\0 🎬 映画 \ud800  w9\u00a0w9",
    " ".join(f"w{i}" for i in range(1, 30)),
    " ".join(f"w{i}" for i in range(1, 31)),
    " ".join(f"w{i}" for i in range(100, 300)),
    "w3 " * 10_000,
]

RUN_ALL = """
import json, os, sys
sys.path = [p for p in sys.path if p]
given = json.load(open(sys.argv[1]))
results = []
for folder, script in given["jobs"]:
    os.chdir(folder)
    names = {}
    exec(compile(script, folder, "exec"), names)
    results.append([float(p) for p in names["probabilities"](given["texts"])])
assert not [name for name in sys.modules if name.startswith("imdbtune")]
print(json.dumps(results))
"""


def random_model(params: TrialParams, masked: bool) -> keras.Model:
    model = plain_model(params, masked=masked)
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.normal(scale=0.7, size=w.shape) if w.dtype.kind == "f" else w for w in weights(model)]
    )
    return model


def weights(model: keras.Model) -> list[Any]:
    return [w.numpy() for w in model.weights]


def export(params: TrialParams, batching: str, folder: Path) -> Path:
    model = random_model(params, masked=batching == "buckets")
    trained = folder.with_suffix(".keras")
    model.save(trained)
    metadata = {"parameters": params.as_dict(), "batching": batching}
    return export_keras(trained, WORD_INDEX, metadata, folder)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("exports")
    return {name: export(*MODELS[name], root / str(i)) for i, name in enumerate(MODELS)}


@pytest.fixture(scope="module")
def with_keras_alone(
    exports: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[float]]:
    """What the scripts in the READMEs say, run in a fresh process without imdbtune."""
    jobs = tmp_path_factory.mktemp("jobs") / "jobs.json"
    scripts = [[str(folder), script_in(folder / "README.md")] for folder in exports.values()]
    jobs.write_text(json.dumps({"jobs": scripts, "texts": TEXTS}))
    ran = subprocess.run(
        [sys.executable, "-I", "-c", RUN_ALL, str(jobs)],
        cwd=jobs.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(zip(exports, json.loads(ran.stdout.splitlines()[-1]), strict=True))


def script_in(readme: Path) -> str:
    (script,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    imported = re.findall(r"^(?:import|from) (\w+)", script, re.MULTILINE)
    assert set(imported) == {"json", "keras", "numpy"}
    return str(script)


@pytest.mark.parametrize("name", MODELS)
def test_imdbtune_and_keras_alone_agree(
    name: str, exports: dict[str, Path], with_keras_alone: dict[str, list[float]]
) -> None:
    ours = list(Predictor.load(exports[name]).probabilities(TEXTS, batch_size=4))
    assert np.ptp(ours) > 0.01
    np.testing.assert_allclose(ours, with_keras_alone[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_company_does_not_change_a_prediction(name: str, exports: dict[str, Path]) -> None:
    predictor = Predictor.load(exports[name])
    together = list(predictor.probabilities(TEXTS))
    alone = [next(predictor.probabilities([text])) for text in TEXTS]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return export(TrialParams(rnn="simple_rnn", **SMALL), "buckets", tmp_path / "export")


def replace_model(folder: Path, model: keras.Model) -> None:
    model.save(folder / "model.keras")


def ids_to(*layers: Any) -> keras.Model:
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])


class Unregistered(keras.layers.Layer):
    def call(self, ids: Any) -> Any:
        return keras.ops.cast(ids[:, :1], "float32")


def with_lambda(folder: Path) -> None:
    marker = str(folder / "marker")
    evil = keras.layers.Lambda(
        lambda ids: (__import__("pathlib").Path(marker).touch(), ids[:, :1])[1], output_shape=(1,)
    )
    replace_model(folder, ids_to(evil))
    keras.models.load_model(folder / "model.keras", safe_mode=False)(np.ones((1, 3), "int32"))
    (folder / "marker").unlink()  # so it does run code, if one lets it


def with_custom_layer(folder: Path) -> None:
    replace_model(folder, ids_to(Unregistered()))


def with_another_shape(folder: Path) -> None:
    replace_model(folder, ids_to(keras.layers.Embedding(200, 3)))


def with_fewer_words(folder: Path) -> None:
    params = TrialParams(rnn="simple_rnn", **SMALL | {"vocabulary": 100})
    replace_model(folder, random_model(params, masked=True))


def with_lost_weights(folder: Path) -> None:
    model = random_model(TrialParams(rnn="simple_rnn", **SMALL), masked=True)
    model.set_weights([w * np.nan for w in weights(model)])
    replace_model(folder, model)


def without_a_model(folder: Path) -> None:
    (folder / "model.keras").unlink()


def cut(folder: Path) -> None:
    path = folder / "model.keras"
    path.write_bytes(path.read_bytes()[:-5000])


def with_flipped_bytes(folder: Path) -> None:
    """Inside the weights, where neither the archive's directory nor HDF5's is hurt."""
    path = folder / "model.keras"
    content = path.read_bytes()
    model = random_model(TrialParams(rnn="simple_rnn", **SMALL), masked=True)
    vectors = weights(model)[0].astype(np.float32).tobytes()
    assert content.count(vectors) == 1
    path.write_bytes(content.replace(vectors, bytes(len(vectors))))


def with_members(**members: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with zipfile.ZipFile(folder / "model.keras", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return damage


def with_a_climbing_member(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.keras", "a") as archive:
        archive.writestr("../../evil", "x")


DAMAGES = {
    "lambda": with_lambda,
    "custom layer": with_custom_layer,
    "another shape": with_another_shape,
    "fewer words": with_fewer_words,
    "weights lost": with_lost_weights,
    "missing": without_a_model,
    "cut": cut,
    "flipped": with_flipped_bytes,
    "empty": with_members(),
    "no JSON": with_members(**{"config.json": b"{"}),
    "no model": with_members(**{"config.json": b"{}"}),
    "climbing": with_a_climbing_member,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_unsafe_model_is_refused(folder: Path, damage: str) -> None:
    DAMAGES[damage](folder)
    with pytest.raises(
        UserError, match=r"is damaged: .*model\.keras.*Export the model again"
    ) as raised:
        Predictor.load(folder)
    assert len(str(raised.value).splitlines()) == 1
    assert not (folder / "marker").exists()


def test_any_text_is_predicted(exports: dict[str, Path]) -> None:
    predictor = Predictor.load(exports["two gru, max"])
    texts = [*TEXTS, "w1 " * 400_000, "\0" * 1000, "a" * 1_000_000, "\udfff" * 10]
    predictions = list(predictor.predictions(texts))
    assert [p.text for p in predictions] == texts
    assert all(0.0 <= p.probability <= 1.0 for p in predictions)
    assert {p.label for p in predictions} <= {"positive", "negative"}
