"""An even design over a search space: random points that cover it, however early a search ends.

Random search draws each value by chance, and a dozen trials may never try one of three cells. Here
a point takes, in each dimension, a value that is among the least used so far; among those, one that
has been least combined with the values of the other dimensions; and only then is it left to chance.
Such minimisation is used to allocate patients evenly to treatments (Pocock and Simon 1975). Numeric
ranges are stratified: the halves of the range are used equally often, and so are their halves.

No point occurs twice, and each point of a finite space occurs in the end.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imdbtune.config.hyperparameters import Scalar
from imdbtune.config.search_space import Dimension, SearchSpace

MAX_LEVELS = 8  # ordered values above this number are stratified, not balanced one by one
DEEPEST = 40  # halvings of a continuous range
ATTEMPTS = 12  # at a point that keeps all dimensions even

Level = int | float | None  # index of a value, position in a continuous range; None: inactive
Cell = tuple[float, float]  # from (included) to (excluded), of indices or positions


class SpaceDesign:
    """The points of a space in an order that is random and even.

    The n-th point depends on the space, the seed and n alone.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._seed = seed
        self._constants = space.constants
        self._axes = [Axis.of(dimension) for dimension in space.searched]
        self._points: list[dict[str, Scalar]] = []
        # How often two strata have been combined, by the dimensions' indices.
        self._pairs: Counter[tuple[int, int, int, int]] = Counter()
        # The levels of the next axis that have no new point, by the levels of the axes before it.
        self._full: dict[tuple[Level, ...], list[int]] = {}
        self._exhausted = False

    def draw(self, n: int) -> dict[str, Scalar] | None:
        """Return the values of the n-th point, from 0; ``None``: the space has no more points."""
        while len(self._points) <= n and not self._exhausted:
            self._points.append(self._next())
        return dict(self._points[n]) if n < len(self._points) else None

    def _next(self) -> dict[str, Scalar]:
        """Return a new point, and note it.

        Where what is left of the space forces a value that is used more than others, other values
        of the dimensions before it are tried.
        """
        chance = random.Random(f"{self._seed}/{len(self._points)}")
        best = self._propose(chance, with_pairs=True)
        for _ in range(ATTEMPTS):
            if not best.excess:
                break
            other = self._propose(chance, with_pairs=False)
            best = min(best, other, key=lambda point: point.excess)
        self._note(best)
        return best.values

    def _propose(self, chance: random.Random, with_pairs: bool) -> _Point:
        """Return a new point, each level among those used least that have a new point left."""
        point = _Point()
        for number, axis in enumerate(self._axes):
            level, stratum = None, None
            if axis.is_active({**self._constants, **point.values}):
                full = self._full.get(tuple(point.levels), [])
                pairs = self._pairs if with_pairs else Counter()
                used = {
                    index: (axis.density(cell), _together(pairs, point.strata, number, index))
                    for index, cell in enumerate(axis.strata)
                }
                left = [i for i, cell in enumerate(axis.strata) if not axis.is_full(cell, full)]
                stratum = min(left, key=lambda index: (*used[index], chance.random()))
                point.excess += used[stratum][0] - min(density for density, _ in used.values())
                level = axis.descend(axis.strata[stratum], full, chance)
                point.values[axis.dimension.name] = axis.value(level)
            point.levels.append(level)
            point.strata.append(stratum)
        return point

    def _note(self, point: _Point) -> None:
        """Count a point, and mark what has no new point after it."""
        levels, strata = point.levels, point.strata
        for number, (axis, level) in enumerate(zip(self._axes, levels, strict=True)):
            stratum = strata[number]
            if level is None or stratum is None:
                continue
            insort(axis.used, level)
            for other, chosen in enumerate(strata[:number]):
                if chosen is not None:
                    self._pairs[other, chosen, number, stratum] += 1
        for depth in range(len(levels) - 1, -1, -1):
            level, axis = levels[depth], self._axes[depth]
            if level is not None:
                if axis.is_continuous:
                    return
                full = self._full.setdefault(tuple(levels[:depth]), [])
                insort(full, int(level))
                if len(full) < axis.size:
                    return
        self._exhausted = True


@dataclass
class _Point:
    """A point while it is built, in the order of the axes; ``None``: an axis is inactive."""

    values: dict[str, Scalar] = field(default_factory=dict)
    levels: list[Level] = field(default_factory=list)
    strata: list[int | None] = field(default_factory=list)
    excess: float = 0.0  # how much more its strata are used than the least used ones


def _together(
    pairs: Counter[tuple[int, int, int, int]],
    strata: Sequence[int | None],
    number: int,
    stratum: int,
) -> int:
    """Return how often a stratum has been combined with those chosen on the axes before it."""
    chosen = ((other, each) for other, each in enumerate(strata) if each is not None)
    return sum(pairs[other, each, number, stratum] for other, each in chosen)


@dataclass
class Axis:
    """A dimension with the levels that have been used.

    Args:
        dimension: of the space.
        grid: its values; empty for a continuous range.
        bounds: the share of the range below each value, from 0 to 1.
        strata: cells that are balanced against those of other axes.
        used: the level of each point, sorted.
    """

    dimension: Dimension
    grid: tuple[Scalar, ...]
    bounds: Sequence[float]
    strata: list[Cell] = field(default_factory=list)
    used: list[int | float] = field(default_factory=list)

    @classmethod
    def of(cls, dimension: Dimension) -> Axis:
        """Return the axis of a dimension."""
        grid = dimension.grid() or ()
        axis = cls(dimension, grid, _bounds(dimension, grid))
        if dimension.values or 0 < len(grid) <= MAX_LEVELS:
            axis.strata = [(float(i), float(i + 1)) for i in range(len(grid))]
        else:
            halves = axis.halves((0.0, float(len(grid) or 1)))
            axis.strata = [quarter for half in halves for quarter in axis.halves(half)]
        return axis

    @property
    def is_continuous(self) -> bool:
        """Whether the range has infinitely many values."""
        return not self.grid

    @property
    def size(self) -> int:
        """Number of values of a grid."""
        return len(self.grid)

    def is_active(self, values: Mapping[str, Scalar]) -> bool:
        """Whether the conditions of the dimension are met."""
        return all(values.get(parent) in allowed for parent, allowed in self.dimension.when)

    def value(self, level: int | float) -> Scalar:
        """Return the value of a level."""
        if self.grid:
            return self.grid[int(level)]
        low, high = self.dimension.low, self.dimension.high
        assert low is not None
        assert high is not None
        if self.dimension.sampling == "log":
            return min(high, low * (high / low) ** level)
        return min(high, low + level * (high - low))

    def density(self, cell: Cell) -> float:
        """Return how often a cell has been used, for its share of the range."""
        low, high = cell
        share = self.bounds[int(high)] - self.bounds[int(low)] if self.grid else high - low
        count = bisect_left(self.used, high) - bisect_left(self.used, low)
        return round(count / share, 9)

    def is_full(self, cell: Cell, full: Sequence[int]) -> bool:
        """Return whether all levels of a cell are among those without a new point."""
        if self.is_continuous:
            return False
        low, high = cell
        return bisect_left(full, high) - bisect_left(full, low) == high - low

    def halves(self, cell: Cell) -> tuple[Cell, Cell]:
        """Return a cell of more than one value in two parts of nearly the same share."""
        low, high = cell
        if self.is_continuous:
            return (low, (low + high) / 2), ((low + high) / 2, high)
        middle = (self.bounds[int(low)] + self.bounds[int(high)]) / 2
        split = bisect_left(self.bounds, middle, int(low), int(high))
        cut = float(min(max(split, int(low) + 1), int(high) - 1))
        return (low, cut), (cut, high)

    def descend(self, cell: Cell, full: Sequence[int], chance: random.Random) -> int | float:
        """Return a level in the least used part of a cell: the half, the half of that, and so on.

        Args:
            cell: with at least one level that is not full.
            full: the levels without a new point.
            chance: decides between halves that have been used equally.
        """
        for _ in range(DEEPEST):
            low, high = cell
            if not self.is_continuous and high - low == 1:
                return int(low)
            if self.is_continuous and bisect_left(self.used, low) == bisect_left(self.used, high):
                break
            left = [half for half in self.halves(cell) if not self.is_full(half, full)]
            cell = min(left, key=lambda half: (self.density(half), chance.random()))
        low, high = cell
        return low + chance.random() * (high - low)


def _bounds(dimension: Dimension, grid: Sequence[Scalar]) -> Sequence[float]:
    """Return the share of the range below each value of a grid, with 1 after the last.

    Whole numbers on a log scale without a step have shares like those of a continuous range.
    """
    count = len(grid)
    if not grid:
        return ()
    if dimension.values or dimension.step is not None or dimension.sampling == "linear":
        return [i / count for i in range(count + 1)]
    edges = [math.log(float(value)) for value in (*grid, float(grid[-1]) + 1)]
    return [(edge - edges[0]) / (edges[-1] - edges[0]) for edge in edges]
