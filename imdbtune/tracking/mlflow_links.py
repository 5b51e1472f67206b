"""Links into MLflow's own pages about a search, and text that is safe in their Markdown."""

from __future__ import annotations

import html
import re
from urllib.parse import quote, urlencode

from imdbtune.tracking.entities import Search
from imdbtune.tracking.mlflow_names import SEARCH_ID
from imdbtune.tracking.mlflow_server import MODEL_TRAINING


def as_text(text: str) -> str:
    """Escape text so that Markdown makes no link, image, code, table or HTML of it."""
    return re.sub(r"[\\`\[\]|!]", r"\\\g<0>", html.escape(text, quote=False))


def table_link(search: Search) -> str:
    """Return a link to MLflow's table of the trials of a search, the best first.

    The parameters are those that MLflow's page of runs puts into its address when a reader filters
    and sorts it; seen in MLflow 3.17. A page that does not know them shows the experiment's runs.
    """
    query = {
        "searchFilter": f"tags.`{SEARCH_ID}` = '{search.run_id}'",
        "orderByKey": f"metrics.`best_{search.objective}`",
        "orderByAsc": str(not search.larger_is_better).lower(),
    }
    runs = f"#/experiments/{search.experiment_id}/runs?{MODEL_TRAINING}"
    return f"{runs}&{urlencode(query, quote_via=quote)}"


def charts_link(search: Search) -> str:
    """Return a link to MLflow's charts of the trials of a search."""
    return f"{table_link(search)}&compareRunsMode=CHART"


def run_link(search: Search, run_id: str, artifact: str = "") -> str:
    """Return a link to a run of a search, or to one of its artifacts."""
    inside = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{search.experiment_id}/runs/{run_id}{inside}?{MODEL_TRAINING}"
