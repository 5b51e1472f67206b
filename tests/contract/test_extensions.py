"""Extensions from another package: ``tests/toys``, which CONTRIBUTING.md takes as its example.

Each test runs in processes of its own that find the package's entry points, as if it was installed.
But for the first they are copies of one that has imported the libraries while it found them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imdbtune.cluster.local_executor import thread_environment
from imdbtune.config import extensions
from imdbtune.config.hyperparameters import TrialParams
from imdbtune.config.registry import Registry
from imdbtune.data.demo import demo_texts
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from imdbtune.training.spec import TrialSpec
from tests import forked
from tests.support import new_store

pytestmark = pytest.mark.xdist_group("extensions")

ROOT = Path(__file__).resolve().parents[2]
TOYS = ROOT / "tests" / "toys"
# What is added: (name of the registry, name of the entry, its module).
ADDED = [
    ("CELLS", "sigmoid_rnn", "toys.sigmoid_rnn"),
    ("SAMPLERS", "downwards", "toys.downwards"),
    ("PRUNERS", "downhill", "toys.downhill"),
    ("METRICS", "recall", "toys.recall"),
    ("FORMATS", "keras_json", "toys.keras_json"),
    ("SOURCES", "PATH.marks", "toys.marks"),
]
REVIEWS = 200
# A search over two sizes of the cell, whose worker finds the extensions too.
SEARCH = (
    *("search", "none", "--data", "reviews.marks", "--name", "toys", "--workers", "1"),
    *("--rnn", "sigmoid_rnn", "--units", "3,4", "--maxlen", "20", "--epochs", "2"),
    *("--bidirectional", "true", "--pooling", "max"),
    *("--tuner", "downwards", "--objective", "val_recall", "--keep-models", "best"),
    "--no-baseline",
)
Run = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toys")


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """The variables of a process in which the package ``toys`` is installed."""
    site = folder / "site"
    install(site)
    path = os.pathsep.join(map(str, (ROOT, TOYS, site)))
    known = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return known | {"PYTHONPATH": path, "IMDBTUNE_CACHE": str(folder / "cache")}


@pytest.fixture(scope="module")
def run(folder: Path, environment: dict[str, str]) -> Iterator[Run]:
    """Runs Python code in ``folder``."""
    output, errors = folder / "output.txt", folder / "errors.txt"
    around = forked.Surroundings(folder, environment, output, errors)

    def run_code(code: str, *arguments: str) -> str:
        for file in (output, errors):
            file.write_bytes(b"")
        status = server.run(forked.run_code, around, code, *arguments)
        shown = output.read_text("utf-8")
        assert status == 0, shown + errors.read_text("utf-8")
        return shown

    variables = {**thread_environment(1), "PYTHONPATH": environment["PYTHONPATH"]}
    with forked.other_server(forked.WARMED, variables) as server:
        yield run_code


def install(site: Path) -> None:
    """Write the metadata that ``pip install`` of the package would write."""
    project = tomllib.loads((TOYS / "pyproject.toml").read_text("utf-8"))["project"]
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head)
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), ""])
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))


CLI = """
import json, sys
import pytest
from imdbtune.cli.app import app
from tests.forked import use_server_of_parent
from tests.support import scripts_here
use_server_of_parent(patch := pytest.MonkeyPatch())
scripts_here(patch)
for words in json.loads(sys.argv[1]):
    print("==", words[0])
    try:
        app(words, standalone_mode=False)
    except SystemExit as done:  # --help exits
        if done.code:
            raise
"""


def sections(output: str) -> dict[str, str]:
    """The output of each command, by its name."""
    parts = output.split("== ")[1:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def commands(run: Run, *calls: tuple[str, ...]) -> dict[str, str]:
    """Runs the commands one after the other; returns the output of each."""
    return sections(run(CLI, json.dumps(calls)))


def test_each_is_found_without_an_import(folder: Path, environment: dict[str, str]) -> None:
    """By a process that has imported nothing before."""
    code = (
        "import json, sys\n"
        "from imdbtune.config import extensions\n"
        f"found = {{name: list(getattr(extensions, name)) for name, *_ in {ADDED}}}\n"
        "print(json.dumps([found, [m for m in sys.modules if m.startswith('toys')]]))"
    )
    command = [sys.executable, "-c", code]
    settings = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, **settings)
    assert done.returncode == 0, done.stderr
    found, imported = json.loads(done.stdout)
    for registry, name, _ in ADDED:
        builtin = list(getattr(extensions, registry))
        assert found[registry] == [*builtin, name]
    assert imported == []


def test_help_names_each(run: Run) -> None:
    calls = [(name, "--help") for name in ("search", "best", "predict")]
    shown = {name: "".join(text.split()) for name, text in commands(run, *calls).items()}
    assert "gru_v1,sigmoid_rnn." in shown["search"]
    assert "FOLDER,PATH.marks." in shown["search"]
    assert "nsga2,downwards." in shown["search"]
    assert "none,median,asha,downhill." in shown["search"]
    assert "litert,keras_json;orall" in shown["best"]
    assert "litert,keras_json." in shown["predict"]


def test_messages_name_each(run: Run) -> None:
    code = (
        "from imdbtune.config.schema import parse_config\n"
        "from imdbtune.data.sources import check_source\n"
        "from imdbtune.export.formats import parse_formats\n"
        "from imdbtune.errors import UserError\n"
        "for call in (lambda: parse_config({'tuner': {'objective': 'val_recal'}}),\n"
        "             lambda: check_source('nowhere'), lambda: parse_formats('keras_jso')):\n"
        "    try:\n        call()\n    except UserError as error:\n        print(error)\n"
    )
    objective, source, form = run(code).splitlines()
    assert "objective is one or more of val_accuracy, val_loss, val_bal" in objective
    assert "FOLDER, PATH.marks" in source
    assert "Did you mean 'keras_json'?" in form


def test_doctor_loads_each(run: Run) -> None:
    found = run("from imdbtune import doctor; print(doctor.extensions())")
    assert "state='ok'" in found
    for registry, name, _ in ADDED:
        assert f"{getattr(extensions, registry).kind} {name}" in found


def test_the_documentation_has_each(run: Run) -> None:
    code = (
        "import json, runpy\n"
        f"make = runpy.run_path({str(ROOT / 'docs' / 'make.py')!r})\n"
        "print(json.dumps(make['pages']()))"
    )
    pages = json.loads(run(code))
    for registry, name, module in ADDED:
        about = {
            "sigmoid_rnn": "SimpleRNN with the activation",
            "downwards": "values in descending",
            "downhill": "ends a trial with the first epoch",
            "recall": "share of the positive",
            "keras_json": "Keras, with",
            "PATH.marks": "a ",
        }
        group = getattr(extensions, registry).group
        table = pages["extensions.md"].partition(f"`{group}`")[2].partition("\n## ")[0]
        (row,) = [line for line in table.splitlines() if line.startswith(f"| `{name}`")]
        assert row.startswith(f"| `{name}` | {about[name]}")
        assert row.endswith(f"| `{module}` |")
    assert "| `PATH.marks` | a file" in pages["own_reviews.md"]
    assert 'open("layers.json"' in pages["using_the_winner.md"].partition("### keras_json\n")[2]
    assert "one or more of val_accuracy, val_loss, val_bal" in pages["hyperparameters.md"]


def test_every_kind_of_extension_has_an_example() -> None:
    registries = {n for n, value in vars(extensions).items() if isinstance(value, Registry)}
    assert registries == {registry for registry, *_ in ADDED}


def test_contract_tests_cover_a_cell(folder: Path, run: Run) -> None:
    """Whoever writes a cell runs them with the package installed."""
    files = [str(ROOT / f"tests/contract/test_{name}.py") for name in ("cells", "fused_rnn")]
    some = "sigmoid_rnn and not True"  # those of one direction
    # The process has imported packages that bring plugins for pytest.
    imported = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    where = [f"--rootdir={ROOT}", f"--basetemp={folder / 'temporary'}"]
    options = ["-q", "-p", "no:cacheprovider", *where, *imported, "-k", some]
    out = run("import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))", *options, *files)
    assert " passed" in out


INTERRUPTED = """
import json
from pathlib import Path
from imdbtune import api
from imdbtune.config.schema import parse_config
from imdbtune.tracking import reader
from imdbtune.tracking.connection import connect
from tests.contract.test_extensions import interrupt_second
from tests.support import Stub, make_config, prepare, stub_trainer

here = Path("interrupted").absolute()
here.mkdir()
prepare(here)
table = make_config(here, space={"units": [4, 16, 8]}, training={"epochs": 4}).as_dict()
config = parse_config(table, {"tuner.kind": "downwards", "tuner.prune": "downhill"})
where = {"workers": 0, "cache": here / "cache", "folder": here / "runs"}
try:
    api.search(config, api.Context(trainer=Stub(interrupt_second), **where))
except KeyboardInterrupt:
    pass
uri = config.tracking.uri
found = api.resume(context=api.Context(uri=uri, trainer=stub_trainer, **where))
trials = reader.read_trials(connect(uri), found)
print(json.dumps(sorted((t.trial_id, t.params.units, t.state) for t in trials if t.has_result)))
"""


def interrupt_second(spec: TrialSpec) -> None:
    """Interrupt a search in its second trial."""
    if spec.folder.name == "0001":
        raise KeyboardInterrupt


def test_a_sampler_and_a_pruner_go_on_after_an_interruption(run: Run) -> None:
    """The third epoch, in which the stub is worse, is pruned only if it is not the last one."""
    done = json.loads(run(INTERRUPTED).splitlines()[-1])
    assert done == [["0000", 16, "PRUNED"], ["0001", 8, "PRUNED"], ["0002", 4, "PRUNED"]]


@pytest.fixture(scope="module")
def used(run: Run, folder: Path) -> tuple[Path, dict[str, str]]:
    """The folder and the output of commands that use each extension."""
    new_store(folder)
    train, _ = demo_texts()
    lines = [f"{'+' if label else '-'} {text}" for text, label in train[:REVIEWS]]
    (folder / "reviews.marks").write_text("\n".join(lines), encoding="utf-8")
    output = commands(
        run,
        ("data", "--data", "reviews.marks"),
        (*SEARCH,),
        ("compare", "--columns", "best_val_recall", "--sort", "best_val_recall"),
        ("best", "--export", "winner", "--format", "keras_json,numpy,onnx"),
        ("predict", "--model", "winner", "a wonderful film"),
    )
    return folder, output


def test_a_source_is_opened(used: tuple[Path, dict[str, str]]) -> None:
    folder, output = used
    assert f"reviews.csv: {REVIEWS * 4 // 5} reviews to train on" in output["data"]
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    assert reader.find_search(client).tags["imdbtune.corpus"] == str(folder / "reviews.marks")


def test_a_metric_is_logged_optimised_and_drawn(
    used: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, output = used
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    search = reader.find_search(client)
    run_ids = [info.info.run_id for info in client.search_runs([search.experiment_id])]
    trials = [r for r in map(client.get_run, run_ids) if r.data.tags["imdbtune.kind"] == "trial"]
    assert len(trials) == 2
    best = {}
    for trial in trials:
        values = client.get_metric_history(trial.info.run_id, "val_recall")
        assert [metric.step for metric in values] == [1, 2]
        best[trial.info.run_id] = max(metric.value for metric in values)
        assert trial.data.metrics["best_val_recall"] == best[trial.info.run_id]
        assert {"recall.png", "accuracy.png", "loss.png"} <= {
            file.path for file in client.list_artifacts(trial.info.run_id)
        }
    assert search.metrics["best_val_recall"] == max(best.values())
    assert "val_recall" in output["search"]
    shown = [line.split()[1] for line in output["compare"].splitlines() if line[:1].isdigit()]
    assert shown == [f"{value:.2f}" for value in sorted(best.values(), reverse=True)]
    report = Path(client.download_artifacts(search.run_id, "report.html", str(tmp_path)))
    assert "Learning curve of the best trial: recall by epoch." in report.read_text("utf-8")
    assert "test recall" in output["best"]


def test_saved_models_have_only_metrics_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """They could not be loaded where the package is missing."""
    from imdbtune.models.builders import compile_model, plain_model

    monkeypatch.syspath_prepend(TOYS)
    monkeypatch.setattr(extensions.METRICS, "added", {"recall": "toys.recall:RECALL"})
    params = TrialParams(units=2, maxlen=5, vocabulary=10)
    model = compile_model(plain_model(params), params, jit=False)
    assert model.get_compile_config()["weighted_metrics"] == ["accuracy"]
    compile_model(model, params, jit=False, steps=1)
    trained = model.get_compile_config()["weighted_metrics"]
    assert [metric["config"]["name"] for metric in trained] == ["accuracy", "recall"]


def test_a_cell_is_trained_by_workers_and_exported(used: tuple[Path, dict[str, str]]) -> None:
    folder, _ = used
    metadata = json.loads((folder / "winner" / "metadata.json").read_text("utf-8"))
    assert metadata["parameters"]["rnn"] == "sigmoid_rnn"
    for name in ("numpy", "onnx"):
        assert metadata["formats"][name]["largest_difference"] < 1e-5
    reference = (folder / "winner" / "reference.py").read_text("utf-8")
    assert "def sigmoid_rnn_step(" in reference


def test_a_format_is_exported_verified_and_used(used: tuple[Path, dict[str, str]]) -> None:
    folder, output = used
    metadata = json.loads((folder / "winner" / "metadata.json").read_text("utf-8"))
    assert metadata["formats"]["keras_json"]["largest_difference"] < 1e-4
    assert "keras_json" in output["best"]
    assert output["predict"].split()[0] in ("good", "bad")
