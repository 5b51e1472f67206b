"""The artifacts of a trial: its record, its history with plots, and its results by review."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.search_space import word
from imdbtune.models.metrics.metric import CORRECTNESS_FILE, DRAWS_FILE
from imdbtune.tracking import run_record
from imdbtune.training.hardware import machine_tags

LENGTHS_FILE = "accuracy_by_length.json"
CONFUSION_FILE = "confusion.json"

if TYPE_CHECKING:
    from imdbtune.training.spec import Epoch, TrialResult, TrialSpec


def write_history(result: TrialResult, spec: TrialSpec) -> Path:
    """Write the files of a trial that has ended, and return their folder."""
    import numpy as np

    from imdbtune.training import learning_curves

    folder = spec.folder / "history"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.csv").write_text(_as_csv(result.history), encoding="utf-8")
    (folder / "history.json").write_text(json.dumps(result.history, indent=1), encoding="utf-8")
    facts = {
        "imdbtune.compiled": word(result.compiled),
        **run_record.named(asdict(spec.settings)),
    }
    (folder / run_record.NAME).write_text(
        run_record.as_json(facts | run_record.versions() | machine_tags())
    )
    if len(result.right):
        np.save(folder / CORRECTNESS_FILE, result.right)
    if result.draws is not None:
        np.save(folder / DRAWS_FILE, result.draws)
    if result.by_length:
        groups = [asdict(group) for group in result.by_length]
        (folder / LENGTHS_FILE).write_text(json.dumps(groups, indent=1), encoding="utf-8")
    if result.confusion is not None:
        text = json.dumps(asdict(result.confusion), ensure_ascii=False)
        (folder / CONFUSION_FILE).write_text(text, encoding="utf-8")
    larger = {metric.name: metric.larger_is_better for metric in spec.code.metrics}
    for metric in spec.settings.metric_names:
        figure = learning_curves.draw_curves(
            learning_curves.curves_data(result.history, metric, larger.get(metric)),
            spec.params.label,
        )
        learning_curves.save_png(figure, folder / f"{metric}.png")
    return folder


def _as_csv(history: Sequence[Epoch]) -> str:
    text = io.StringIO()
    rows = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    rows.writeheader()
    rows.writerows(history)
    return text.getvalue()
