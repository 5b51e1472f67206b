"""An exported model predicts the same in every format, without imdbtune, and is safe to load.

One process for each format runs the scripts of the READMEs, on all models at once.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from imdbtune.cli.app import app
from imdbtune.config.extensions import CELLS, FORMATS
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.errors import ExportFailed, UserError
from imdbtune.export import formats, verify
from imdbtune.export.folder import read_export
from imdbtune.export.format import Format, Network, Trained
from imdbtune.export.numpy_format import NUMPY
from imdbtune.export.predictor import Predictor
from imdbtune.export.writing import ExportContents, write_export
from imdbtune.models.builders import plain_model
from imdbtune.training.ensemble import common_params
from tests.averaged import TWO
from tests.support import untried_exports

pytestmark = pytest.mark.xdist_group("export formats")
SMALL: dict[str, Any] = {"vocabulary": 200, "embedding": 8, "units": 4, "maxlen": 30}
WORD_INDEX = {f"w{rank}": rank for rank in range(1, 400)} | {"don't": 400, "": 401, "é": 402}
EACH_CELL = {
    f"two {rnn}, max": (TrialParams(rnn=rnn, depth=2, pooling="max", **SMALL), "buckets")
    for rnn in CELLS
}
MODELS = EACH_CELL | {
    "lstm both ways, max and mean": (
        TrialParams(rnn="lstm", bidirectional=True, pooling="max_mean", dropout=0.3, **SMALL),
        "buckets",
    ),
    "two gru both ways": (TrialParams(rnn="gru", depth=2, bidirectional=True, **SMALL), "buckets"),
    "gru, bigrams, attention": (
        TrialParams(
            rnn="gru",
            bidirectional=True,
            pooling="max_mean_attention",
            bigrams=50,
            layer_norm=True,
            spatial_dropout=0.2,
            skip=True,
            **SMALL,
        ),
        "buckets",
    ),
    "simple_rnn, bigrams, padded": (
        TrialParams(rnn="simple_rnn", pooling="attention", bigrams=50, **SMALL),
        "padded",
    ),
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

# NumPy and ONNX have their own equations, so they are tested with every model. The others save
# Keras's graph, which takes seconds, and are tested with a few: the ensemble has some cells.
HARD, BOOK = "gru, bigrams, attention", "lstm as in the book"
OTHER_CELLS = [
    name for name, (params, _) in EACH_CELL.items() if params.rnn not in {p.rnn for p in TWO}
]
SOME = {
    "keras": (HARD, BOOK),
    "savedmodel": (HARD, *OTHER_CELLS),
    "litert": (HARD, *OTHER_CELLS),
    "mlflow": (HARD,),
}
ENSEMBLE = "two and the linear model"
PAIRS = [(f, m) for m in MODELS for f in FORMATS if m in SOME.get(f, MODELS)]
PAIRS += [(f, ENSEMBLE) for f in FORMATS]


def formats_of(model: str) -> tuple[str, ...]:
    return ("keras", *(f for f, m in PAIRS if m == model and f != "keras"))


def available(names: tuple[str, ...]) -> list[Format]:
    """Those formats whose extra is installed."""
    found = []
    for name in names:
        try:
            FORMATS[name].check_installed()
        except UserError:
            continue
        found.append(FORMATS[name])
    return found


def random_model(params: TrialParams, masked: bool) -> keras.Model:
    model = plain_model(params, masked=masked)
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.normal(scale=0.7, size=w.shape) if w.dtype.kind == "f" else w for w in weights(model)]
    )
    return model


def weights(model: keras.Model) -> list[Any]:
    return [w.numpy() for w in model.weights]


def trained(params: TrialParams, batching: str, path: Path) -> Trained:
    masked = batching == "buckets"
    random_model(params, masked).save(path)
    return Trained(path, params, masked)


def export(
    params: TrialParams, batching: str, folder: Path, names: tuple[str, ...] = ("keras",)
) -> Path:
    """An export that has not been checked."""
    model = trained(params, batching, folder.with_suffix(".keras"))
    return write_unchecked(model, batching, folder, names)


def write_unchecked(
    model: Trained, batching: str, folder: Path, names: tuple[str, ...], **metadata: Any
) -> Path:
    made = available(names)
    return write_export(
        folder,
        [f.name for f in made],
        ExportContents(
            WORD_INDEX,
            {"parameters": model.params.as_dict(), "batching": batching, **metadata},
        ),
        formats.usage(made),
        lambda new: formats.write_models(made, model, new),
        lambda new: {f.name: {} for f in made},
    )


def export_ensemble(average: Path, folder: Path) -> Path:
    model = Trained(average, common_params(TWO, linear=True), True, TWO)
    members = [params.as_dict() for params in TWO]
    return write_unchecked(model, "buckets", folder, tuple(FORMATS), members=members)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, with_linear: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("exports")
    single = {
        name: export(*MODELS[name], root / str(i), formats_of(name))
        for i, name in enumerate(MODELS)
    }
    return {**single, ENSEMBLE: export_ensemble(with_linear, root / "ensemble")}


@pytest.fixture(scope="module")
def expected(exports: dict[str, Path]) -> dict[str, list[float]]:
    """The answers of Keras, by way of this package."""
    return {
        name: list(Predictor.load(folder, "keras").probabilities(TEXTS, batch_size=4))
        for name, folder in exports.items()
    }


@pytest.fixture(scope="module")
def alone(exports: dict[str, Path]) -> Callable[[str], dict[str, Any]]:
    """The answers of the scripts in the READMEs, by model."""
    known: dict[str, dict[str, Any]] = {}

    def answers(name: str) -> dict[str, Any]:
        if name not in known:
            models = [m for f, m in PAIRS if f == name]
            folders = [exports[m] for m in models]
            found = verify.run_scripts(FORMATS[name], folders, TEXTS)
            known[name] = dict(zip(models, found, strict=True))
        return known[name]

    return answers


@pytest.mark.parametrize(("name", "model"), PAIRS)
def test_every_format_predicts_as_keras_does(
    name: str,
    model: str,
    exports: dict[str, Path],
    expected: dict[str, list[float]],
    alone: Callable[[str], dict[str, Any]],
) -> None:
    """In a new process without this package; and within it, with other batches."""
    if not available((name,)):
        pytest.skip(f"needs the extra {name}")
    assert np.ptp(expected[model]) > 0.01
    near = 5e-5 if model == ENSEMBLE else 1e-5
    np.testing.assert_allclose(alone(name)[model], expected[model], rtol=0, atol=near)
    ours = list(Predictor.load(exports[model], name).probabilities(TEXTS, batch_size=3))
    np.testing.assert_allclose(ours, expected[model], rtol=0, atol=near)


@pytest.mark.parametrize("name", MODELS)
def test_predictions_do_not_depend_on_other_texts(name: str, exports: dict[str, Path]) -> None:
    predictor = Predictor.load(exports[name])
    together = list(predictor.probabilities(TEXTS))
    alone = [next(predictor.probabilities([text])) for text in TEXTS]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_scripts_leave_nothing_in_the_folder_and_all_files_are_listed(
    exports: dict[str, Path], alone: Callable[[str], dict[str, Any]]
) -> None:
    folder = exports[HARD]
    made = available(tuple(FORMATS))
    for one in made:
        alone(one.name)
    common = ["README.md", "encode.py", "metadata.json", "vocabulary.json"]
    files = sorted([*common, *(file for one in made for file in one.files)])
    assert sorted(path.name for path in folder.iterdir()) == files
    assert read_export(folder).metadata["files"] == files


def test_no_format_holds_code_of_this_package(exports: dict[str, Path]) -> None:
    """Neither its layers nor a pickle; its name may occur in prose."""
    for path in exports[HARD].rglob("*"):
        if path.is_file() and path.name not in ("README.md", "metadata.json"):
            text = path.read_bytes()
            assert not re.search(rb"(?:import|from) imdbtune|imdbtune[.>]\w+[.>]\w", text), path
            assert path.suffix != ".pkl"


def test_the_commands_in_the_readme_run(
    exports: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = exports[HARD]
    text = (folder / "README.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).splitlines()
    ours, numpy_alone = map(shlex.split, lines)
    assert ours[0] == "imdbtune"
    monkeypatch.chdir(folder)
    app(ours[1:], standalone_mode=False)
    assert "0." in capfd.readouterr().out
    assert numpy_alone[0] == "python"
    command = [sys.executable, "-B", *numpy_alone[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"(0\.\d{4}  .+\n){2}", done.stdout)


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Path]:
    """Exports a small model as a user does, checks included."""

    def call(folder: Path, names: tuple[str, ...] = ("numpy",), run_id: str = "") -> Path:
        params = TrialParams(rnn="gru", **SMALL)
        metadata = {"parameters": params.as_dict(), "batching": "buckets", "run_id": run_id}
        model = trained(params, "buckets", tmp_path / "small.keras")
        contents = ExportContents(WORD_INDEX, metadata)
        return formats.export_model(model, names, contents, TEXTS[1:4], folder)

    return call


def test_the_metadata_have_the_largest_difference(
    small: Callable[..., Path], tmp_path: Path
) -> None:
    checked = read_export(small(tmp_path / "new")).formats
    assert checked["numpy"]["reviews"] == 3
    assert 0 <= checked["numpy"]["largest_difference"] < 1e-6


def test_formats_have_the_names_of_their_entries() -> None:
    assert [form.name for form in FORMATS.values()] == list(FORMATS)


def test_formats_are_added_to_an_export_of_the_same_run(
    small: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one README for all formats; existing formats are not written again."""
    untried_exports(monkeypatch)
    folder = small(tmp_path / "new", run_id="a1")
    old = (folder / "model.npz").stat()
    small(folder, ("numpy", "keras"), run_id="a1")
    assert (folder / "model.npz").stat() == old
    assert sorted(read_export(folder).formats) == ["keras", "numpy"]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert [made.name for made in FORMATS.values() if made.usage in readme] == ["keras", "numpy"]
    by_both = [
        list(Predictor.load(folder, name).probabilities(TEXTS)) for name in ("keras", "numpy")
    ]
    np.testing.assert_allclose(*by_both, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="of the same run as keras"):
        small(folder, ("keras",), run_id="a1")


def write_changed(model: Trained, folder: Path, change: Callable[[str, Any], Any]) -> None:
    (network,) = model.networks()
    weights = {name: change(name, w) for name, w in network.weights.items()}
    changed = dataclasses.replace(model)
    object.__setattr__(changed, "networks", lambda: [Network(model.params, weights)])
    NUMPY.write(changed, folder)


def other_weights(model: Trained, folder: Path) -> None:
    write_changed(model, folder, lambda name, w: w + 0.01 if name == "output.bias" else w)


def lost_weights(model: Trained, folder: Path) -> None:
    write_changed(model, folder, lambda name, w: w * np.nan)


def without_weights(model: Trained, folder: Path) -> None:
    NUMPY.write(model, folder)
    (folder / "model.npz").unlink()


def with_our_package(model: Trained, folder: Path) -> None:
    NUMPY.write(model, folder)
    predict = folder / "predict.py"
    predict.write_text(f"import imdbtune\n{predict.read_text()}")


def with_tensorflow(model: Trained, folder: Path) -> None:
    NUMPY.write(model, folder)
    predict = folder / "predict.py"
    predict.write_text(f"import tensorflow\n{predict.read_text()}")


def no_converter(model: Trained, folder: Path) -> None:
    raise NotImplementedError("no such operator\nand a page of details")


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (other_weights, r"than in Keras: they differ by \d\.\de-03 on one of 3 reviews"),
        (lost_weights, "than in Keras: they differ by nan"),
        (without_weights, r"does not work without imdbtune \(FileNotFoundError: .*model\.npz"),
        (with_our_package, r"does not work without imdbtune \(.*imdbtune"),
        (with_tensorflow, r"does not work without imdbtune \(.*tensorflow"),
        (no_converter, r"cannot be written in the format numpy \(no such operator\)"),
    ],
)
def test_a_failed_format_leaves_no_files(
    small: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Trained, Path], None],
    says: str,
) -> None:
    with monkeypatch.context() as patch:
        broken = dataclasses.replace(NUMPY, write=write)
        patch.setattr("imdbtune.export.numpy_format.NUMPY", broken)
        with pytest.raises(ExportFailed, match=says) as raised:
            small(tmp_path / "parent" / "new")
    assert len(str(raised.value).splitlines()) == 1
    assert list((tmp_path / "parent").iterdir()) == []


def test_a_missing_package_is_named_with_its_extra(
    small: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = dataclasses.replace(FORMATS["onnx"], installed_by=("no_such_package",))
    monkeypatch.setattr("imdbtune.export.onnx_format.ONNX", absent)
    with pytest.raises(UserError, match=r"needs no_such_package.* pip install 'imdbtune\[onnx\]'"):
        small(tmp_path / "new", ("numpy", "onnx"))
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("intact") / "export"
    return export(TrialParams(rnn="simple_rnn", **SMALL), "buckets", folder)


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    return shutil.copytree(intact, tmp_path / "export")


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
