from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from imdbtune.training.learning_curves import (
    Curves,
    curves_data,
    draw_all_curves,
    draw_curves,
    leaderboard_curves_data,
    save_png,
)
from tests.support import assert_legible

NAN = math.nan
LISTING_623 = [0.8188, 0.8444, 0.8438, 0.8208, 0.8466, 0.8356, 0.8572, 0.8584, 0.8292, 0.8078]


def _history(validation: Sequence[float]) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "accuracy": 0.5 + 0.04 * epoch,
            "loss": 0.7 - 0.05 * epoch,
            "val_accuracy": value,
            "val_loss": 1 - value,
        }
        for epoch, value in enumerate(validation, 1)
    ]


def _texts(figure: Figure) -> str:
    axes = figure.axes[0]
    legend = axes.get_legend()
    inside = [*figure.texts, *axes.texts, *(legend.get_texts() if legend else [])]
    return "\n".join(text.get_text() for text in inside)


def test_curves_of_the_listing() -> None:
    curves = curves_data(_history(LISTING_623), "accuracy")
    assert curves.epochs == tuple(range(1, 11))
    assert curves.validation == tuple(LISTING_623)
    assert curves.train[0] == pytest.approx(0.54)
    assert (curves.best_epoch, curves.best_value, curves.metric) == (8, 0.8584, "accuracy")


def test_best_loss_is_the_smallest_and_the_first_of_equals() -> None:
    assert curves_data(_history([0.7, 0.8, 0.8, 0.6]), "loss").best_epoch == 2
    assert curves_data(_history([0.7, 0.8, 0.8, 0.6]), "accuracy").best_epoch == 2


def test_values_that_are_not_finite_are_gaps_and_never_best() -> None:
    curves = curves_data(_history([NAN, math.inf, 0.8, -math.inf]), "accuracy")
    assert [math.isnan(value) for value in curves.validation] == [True, True, False, True]
    assert curves.best_epoch == 3
    nothing = curves_data(_history([NAN, NAN]), "loss")
    assert nothing.best_epoch is None
    assert math.isnan(nothing.best_value)


def test_without_validation_there_is_no_best_epoch() -> None:
    curves = curves_data([{"epoch": 1, "loss": 0.6}, {"epoch": 2, "loss": 0.5}], "loss")
    assert curves == Curves((1, 2), (0.6, 0.5), (), None, "loss")


def test_epochs_may_start_late() -> None:
    """As in a trial that continues another one."""
    late = [row | {"epoch": row["epoch"] + 3} for row in _history([0.7, 0.8])]
    curves = curves_data(late, "accuracy")
    assert (curves.epochs, curves.best_epoch, curves.best_value) == ((4, 5), 5, 0.8)


def test_leaderboard_ranks_by_best_value_and_puts_failures_last() -> None:
    trials = [
        ("failed", _history([NAN])),
        ("low", _history([0.6])),
        ("high", _history([0.9, 0.5])),
        ("empty", []),
    ]
    for metric in ("accuracy", "loss"):
        ranked = leaderboard_curves_data(trials, metric)
        assert [name for name, _ in ranked.trials] == ["high", "low", "failed", "empty"]
        assert ranked.metric == metric


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_figure_is_that_of_listing_624(metric: str) -> None:
    curves = curves_data(_history(LISTING_623), metric)
    figure = draw_curves(curves, "trial $7$")
    dots, line, best = figure.axes[0].get_lines()

    assert (dots.get_marker(), dots.get_linestyle()) == ("o", "None")
    assert (line.get_marker(), line.get_linestyle()) == ("None", "-")
    assert dots.get_color() == line.get_color()
    assert tuple(dots.get_ydata()) == curves.train  # type: ignore[arg-type]
    assert tuple(line.get_ydata()) == curves.validation  # type: ignore[arg-type]
    assert tuple(best.get_xdata()) == (8, 8)  # type: ignore[arg-type]
    assert _texts(figure).splitlines() == [
        f"Training and validation {metric}",
        "trial $7$",
        f"best: {curves.best_value:.4f} at epoch 8",
        "training",
        "validation",
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 10, 13, 30, 200])
def test_epoch_ticks_are_whole_numbers(count: int) -> None:
    axes = draw_curves(curves_data(_history([0.5] * count), "accuracy")).axes[0]
    first, last = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if first <= tick <= last]
    assert 1 <= len(ticks) <= 13
    assert all(float(tick).is_integer() and 1 <= tick <= max(count, 1) for tick in ticks)


def test_a_value_alone_between_gaps_has_a_marker() -> None:
    figure = draw_curves(curves_data(_history([0.6, 0.7, NAN, 0.8, NAN]), "accuracy"))
    line = figure.axes[0].get_lines()[1]
    assert (line.get_marker(), line.get_markevery()) == ("D", [3])
    assert "validation (2 of 5 not finite)" in _texts(figure)


def test_diverged_losses_get_a_logarithmic_scale_and_others_do_not() -> None:
    diverged = draw_curves(curves_data(_history([0.5, -1e6]), "loss"))
    usual = draw_curves(curves_data(_history([0.5, 0.999]), "loss"))
    assert diverged.axes[0].get_yscale() == "log"
    assert usual.axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    "validation", [[], [0.5], LISTING_623, [NAN] * 3, [0.5, NAN] * 15, [0.9] + [0.5] * 29]
)
def test_curves_become_a_png_with_all_text_inside(validation: list[float], tmp_path: Path) -> None:
    for metric in ("accuracy", "loss"):
        figure = draw_curves(curves_data(_history(validation), metric), "a long name " * 20)
        assert_legible(figure)
        save_png(figure, tmp_path / "curves.png", dpi=50)
        assert imread(tmp_path / "curves.png").shape == (240, 320, 4)


def test_all_curves_show_five_in_colour_and_the_rest_in_grey() -> None:
    trials = [(f"trial {i}", _history([0.5, 0.5 + i / 100])) for i in range(40)]
    figure = draw_all_curves(leaderboard_curves_data([*trials, ("bad", [])], "accuracy"), "mine")
    lines = figure.axes[0].get_lines()

    best = lines[:5]
    assert [line.get_ydata()[-1] for line in best] == [0.89, 0.88, 0.87, 0.86, 0.85]  # type: ignore[index]
    assert len({line.get_color() for line in best}) == 5
    assert {line.get_color() for line in lines[5:40]} == {"#808080"}
    assert min(line.get_zorder() for line in best) > max(line.get_zorder() for line in lines[5:])
    texts = _texts(figure)
    assert "1. trial 39\n    0.8900 at epoch 2" in texts
    assert "others: 35" in texts
    assert "without a finite value: 1" in texts
    assert "trial 34" not in texts


@pytest.mark.parametrize("count", [0, 1, 6, 300])
@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("narrow", [False, True])
def test_all_curves_become_a_png_with_all_text_inside(
    count: int, epochs: int, narrow: bool, tmp_path: Path
) -> None:
    name = "Bidirectional $u$=32 learning rate=0.001 {}"
    trials = [(name.format(i), _history([0.5 + i / 1000] * epochs)) for i in range(count)]
    figure = draw_all_curves(leaderboard_curves_data(trials, "accuracy"), "search", narrow=narrow)
    assert_legible(figure)
    save_png(figure, tmp_path / "all.png")
    # A narrow figure is as high as its legend needs it.
    narrow_shape = ({0: 433, 1: 470}.get(count, 636), 540, 4)
    assert imread(tmp_path / "all.png").shape == (narrow_shape if narrow else (480, 900, 4))


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import imdbtune.training.learning_curves as plots;"
        "curves = plots.curves_data([{'epoch': 1, 'loss': 0.5, 'val_loss': 0.6}], 'loss');"
        "plots.save_png(plots.draw_curves(curves), Path(sys.argv[1]));"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    path = tmp_path / "loss.png"
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert 5_000 < path.stat().st_size < 200_000
