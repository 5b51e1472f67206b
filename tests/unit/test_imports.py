"""What may be imported where, beyond the layers of pyproject.toml, and what start-up imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.tracking import connection, writer
from tests.support import new_store

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "imdbtune"
TRAINING = (
    *("matplotlib", "tensorflow", "keras", "keras_tuner", "dask", "distributed"),
    "sklearn",
)
HEAVY = ("numpy", "mlflow", "rich", *TRAINING)


def modules() -> list[str]:
    paths = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(path.with_suffix("").parts) for path in paths)


def imported_names(tree: ast.AST) -> set[str]:
    """All that is imported anywhere in the file: also in functions and under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_only_the_command_line_writes_to_the_terminal_or_exits() -> None:
    """It alone may import what does so."""
    below = [module for module in modules() if not module.startswith(("cli.", "__main__"))]
    for module in below:
        source = (PACKAGE / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")
        names = imported_names(ast.parse(source))
        assert not {n for n in names if n.split(".")[0] in ("typer", "rich", "click")}, module
        assert "sys.exit" not in source, module


def test_the_command_line_starts_without_heavy_packages() -> None:
    code = f"import sys, imdbtune.cli.app; print([m for m in {HEAVY} if m in sys.modules])"
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_naming_formats_of_export_loads_no_tensorflow() -> None:
    """Its notices would come before they are kept out of the way, and wrong input would wait."""
    code = "import sys, imdbtune.export.formats; print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def searched(folder: Path) -> str:
    """A store with a search of one trial, made without training it."""
    uri = new_store(folder)
    client = connection.connect(uri)
    search = writer.SearchRun.open(client, "light", "imdbtune", {}, "search")
    trial = writer.Run(client, search.start_trial("0000", TrialParams(), {}))
    trial.log({"best_val_accuracy": 0.9})
    for run in (trial, search):
        run.end("FINISHED")
    return uri


@pytest.mark.parametrize(("name", "says"), [("compare", "lstm-d1-u32-L500"), ("list", "light")])
def test_commands_that_only_read_do_not_load_mlflow(name: str, says: str, tmp_path: Path) -> None:
    """It would take most of the command's time."""
    code = (
        "import atexit, sys, imdbtune.cli.app\n"
        "heavy = ('mlflow', 'sqlalchemy', 'pandas', 'scipy')\n"
        "atexit.register(lambda: print([m for m in heavy if m in sys.modules]))\n"
        "imdbtune.cli.app.main()"
    )
    command = [sys.executable, "-c", code, name, "--tracking-uri", searched(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert says in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_reading_results_loads_nothing_that_trains_or_draws(tmp_path: Path) -> None:
    uri = searched(tmp_path)
    code = (
        "import sys; from imdbtune.cli.app import app\n"
        f"for name in ('best', 'compare'): app([name, '--tracking-uri', {uri!r}], "
        "standalone_mode=False)\n"
        f"print([m for m in {TRAINING} if m in sys.modules])"
    )
    run_code = [sys.executable, "-c", code]
    done = subprocess.run(run_code, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count("lstm-d1-u32-L500") == 2
    assert done.stdout.splitlines()[-1] == "[]"
