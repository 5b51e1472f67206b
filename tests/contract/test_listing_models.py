"""The models of the book have the book's numbers of parameters."""

from __future__ import annotations

from typing import Any

import pytest

from imdbtune.config.hyperparameters import TrialParams
from imdbtune.models.builders import fused_model, plain_model

OUTPUT = 32 + 1  # Dense(1) over 32 units; In[4] to In[6] have none


@pytest.mark.parametrize("form", [plain_model, fused_model])
@pytest.mark.parametrize(
    ("params", "count"),
    [
        pytest.param(TrialParams("simple_rnn"), 322_080, id="In[4] and In[5]"),
        pytest.param(TrialParams("simple_rnn", depth=4), 328_320, id="In[6]"),
        # 4 gates over 32 features, 32 states and a bias
        pytest.param(TrialParams("lstm"), 320_000 + 4 * 32 * (32 + 32 + 1), id="Listing 6.27"),
        # 3 gates, with Keras's second bias
        pytest.param(TrialParams("gru"), 320_000 + 3 * 32 * (32 + 32 + 2), id="gru"),
    ],
)
def test_parameter_counts_are_those_of_the_listings(
    form: Any, params: TrialParams, count: int
) -> None:
    assert form(params).count_params() == count + OUTPUT


def test_listing_6_23_and_6_27_are_the_defaults() -> None:
    layers = [layer.get_config() for layer in plain_model(TrialParams(), masked=False).layers[1:]]
    embedding, lstm, dense = layers
    assert (embedding["input_dim"], embedding["output_dim"]) == (10_000, 32)
    assert not embedding["mask_zero"]
    assert (lstm["units"], lstm["return_sequences"]) == (32, False)
    assert (dense["units"], dense["activation"]) == (1, "sigmoid")
    defaults = TrialParams()
    assert (defaults.optimizer, defaults.batch_size, defaults.maxlen) == ("rmsprop", 128, 500)


def test_stacked_layers_return_sequences_but_the_last() -> None:
    model = plain_model(TrialParams("simple_rnn", depth=4), masked=False)
    shapes = [layer.output.shape for layer in model.layers[1:-1]]
    assert shapes == [(None, None, 32)] * 4 + [(None, 32)]
