"""A search in MLflow's own pages: the columns and charts that matter, ready made, and links there.

MLflow's page of runs shows neither parameters nor metrics until they are chosen. A chosen state can
be shared: it lies in a tag of the experiment as JSON, and an address names it. What is written here
is such a state; where a later MLflow does not know it, the page opens as it would without one.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from imdbtune.tracking.mlflow_server import MODEL_TRAINING
from imdbtune.tracking.reader import Search
from imdbtune.tracking.writer import SEARCH_ID

TAG = "mlflow.sharedViewState."
FIGURES = ("best_epoch", "train_seconds", "parameter_count")
TAG_LIMIT = 5000  # characters in a tag of an experiment
SECTION = "trials"


def as_text(text: str) -> str:
    """Text that Markdown makes no link, image, code, table or HTML of."""
    return re.sub(r"[\\`\[\]|!]", r"\\\g<0>", html.escape(text, quote=False))


def shared_view(search: Search, varied: Sequence[str]) -> str:
    """The state of MLflow's page of runs: the trials of ``search``, the best first."""
    best = f"best_{search.objective}"
    columns = [f"params.`{name}`" for name in varied]
    columns += [f"metrics.`{name}`" for name in (best, *FIGURES)]
    charts = [
        _lines(search.objective),
        _chart("PARALLEL", "all", selectedParams=list(varied), selectedMetrics=[best]),
        _chart("BAR", best, metricKey=best),
        _chart("SCATTER", "cost", xaxis=_metric("train_seconds"), yaxis=_metric(best)),
        _lines("val_loss" if search.objective == "val_accuracy" else "val_accuracy"),
        _lines("accuracy"),
        _lines("loss"),
    ]
    # Two charts side by side: of three, parallel coordinates are too narrow to be read.
    section = {"uuid": SECTION, "name": "Trials", "display": True, "columns": 2}
    state = {
        "searchFilter": f"tags.`{SEARCH_ID}` = '{search.run_id}'",
        "orderByKey": f"metrics.`{best}`",
        "orderByAsc": not search.larger_is_better,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        **{key: [] for key in ("columnOrder", "runsPinned", "runsHidden")},
        **{key: {} for key in ("columnWidths", "runsExpanded", "runsVisibilityMap")},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": [section],
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
    }
    while len(text := json.dumps(state, separators=(",", ":"))) > TAG_LIMIT:
        charts.pop()
    return text


def _chart(kind: str, name: str, **more: Any) -> dict[str, Any]:
    common = {"uuid": f"{kind}-{name}", "type": kind, "metricSectionId": SECTION}
    return {**common, "runsCountToCompare": 100, "showAllRuns": True, **more}


def _lines(metric: str) -> dict[str, Any]:
    """One metric of all trials by epoch."""
    axes = {"xAxisKey": "step", "xAxisScaleType": "linear", "yAxisKey": "metric"}
    more = {"scaleType": "linear", "lineSmoothness": 0, "range": {}, "yAxisExpressions": []}
    keys = {"metricKey": metric, "selectedMetricKeys": [metric]}
    return _chart("LINE", metric, **keys, **axes, **more)


def _metric(name: str) -> Mapping[str, str]:
    return {"key": name, "type": "METRIC"}


def table_link(search: Search) -> str:
    """Where MLflow shows the trials as a table."""
    runs = f"#/experiments/{search.experiment_id}/runs?{MODEL_TRAINING}"
    return f"{runs}&viewStateShareKey={search.run_id}"


def charts_link(search: Search) -> str:
    """Where MLflow lays the curves of the trials over each other."""
    return f"{table_link(search)}&compareRunsMode=CHART"


def run_link(search: Search, run_id: str, artifact: str = "") -> str:
    """Where MLflow shows a run, or one of its artifacts."""
    inside = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{search.experiment_id}/runs/{run_id}{inside}?{MODEL_TRAINING}"
