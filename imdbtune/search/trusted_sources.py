"""The sources of users' own models that may be run on this machine.

Whoever can write to a tracking store can put a source there. So a source from MLflow is run only if
a search in this folder was started with the same one, or the user has said that it is trusted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imdbtune.config.own_model import ModelSource, OwnModel, split_build
from imdbtune.errors import UserError
from imdbtune.files import atomic_path, make_private_folder, read_small_text
from imdbtune.models.safe_load import has_known_layers_only
from imdbtune.tracking import own_models

if TYPE_CHECKING:
    from imdbtune.search.context import Context
    from imdbtune.tracking.connection import MlflowClient
    from imdbtune.tracking.entities import Trial

FOLDER = "models"  # in the folder of the workspaces


def remember(base: Path, own: OwnModel | ModelSource | None) -> None:
    """Note that the source of a model is trusted in a folder of workspaces; None: it has none."""
    if own is None:
        return
    source = own if isinstance(own, ModelSource) else own.source
    path = _path(base, source.digest)
    if not is_known(base, source):
        make_private_folder(path.parent)
        with atomic_path(path) as temporary:
            temporary.write_text(source.text, encoding="utf-8")


def is_known(base: Path, source: ModelSource) -> bool:
    """Return whether a source is trusted in a folder of workspaces."""
    return _path(base, source.digest).exists()


def _path(base: Path, digest: str) -> Path:
    return base / FOLDER / f"{digest}.py"


def find_source(client: MlflowClient, trial: Trial, context: Context) -> ModelSource | None:
    """Return the source of a trial's own model; ``None``: it has none.

    Raises:
        UserError: the source is not trusted, or MLflow does not have it.
    """
    own = trial.params.own
    if own is None:
        return None
    path, function = split_build(own.build)
    known = _path(context.workspaces, own.digest) if own.digest.isalnum() else None
    if known is not None and known.exists():
        source = ModelSource(path.name, function, read_small_text(known))
        if source.digest == own.digest:
            return source
    if not context.trust_model:
        raise UserError(
            f"{trial.name} (run {trial.run_id}) is a model of {own.build}, whose code would be run "
            f"here, and no search in {context.workspaces} was started with it. Read it in MLflow, "
            f"the artifact {own_models.FOLDER}/{path.name} of its search, and add --trust-model."
        )
    source = own_models.read_source(client, trial)
    remember(context.workspaces, source)
    return source


def needed_source(
    client: MlflowClient, trial: Trial, model: Path, context: Context
) -> ModelSource | None:
    """Return the source that a trial's model file needs to be opened; ``None``: it needs none.

    A file of Keras's own layers needs none, whoever has built the model.

    Raises:
        UserError: the source is not trusted, or MLflow does not have it.
    """
    if trial.params.own is None or has_known_layers_only(model):
        return None
    return find_source(client, trial, context)
