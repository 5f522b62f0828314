"""What a file of XGBoost or LightGBM says: trees that add to one output each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyml.codegen.graph import Floats, Forest, Graph, Node, Tree
from tinyml.codegen.lower_trees import in_column, sum_of_trees


@dataclass(frozen=True, eq=False, repr=False)
class Boosted:
    """A boosted forest, whoever trained it.

    Attributes
    ----------
    trees : tuple of Tree
        With one value at each leaf.
    outputs : ndarray of shape (n_trees,)
        Number of the output that each tree adds to.
    offset : ndarray of shape (n_outputs,)
        What the outputs begin from.
    link : {"softmax", "expit"} or None
        How probabilities follow from the scores.
    n_classes : int
        0 for a regressor.
    names : list of str
        Of the features; empty if they have none.
    """

    library: str
    trees: tuple[Tree, ...]
    outputs: NDArray[Any]
    offset: Floats
    link: str | None
    n_classes: int
    n_features: int
    names: list[str]
    precision: Any

    def __repr__(self) -> str:
        return f"<{len(self.trees)} trees of {self.library}>"

    def lower(self, g: Graph, x: Node) -> Forest:
        """Record the forest in a graph, as a lowering does."""
        g.link = self.link
        pairs = zip(self.trees, self.outputs, strict=True)
        trees = [in_column(tree, int(k), len(self.offset)) for tree, k in pairs]
        return sum_of_trees(x, trees, self.offset, self.precision)


@dataclass(frozen=True)
class Objective:
    """What the scores of an objective mean: classes, if it has any, and their link."""

    is_classifier: bool = False
    link: str | None = None

    def n_classes(self, n_outputs: int) -> int:
        """Return the number of classes that so many scores tell apart; 0 for a regressor."""
        return max(n_outputs, 2) if self.is_classifier else 0


def objective_of(name: str, known: dict[str, Objective], library: str) -> Objective:
    """Look up an objective; the scores of others are no sums of trees or no decisions."""
    if name not in known:
        raise TypeError(
            f"The objective {name!r} of {library} cannot be compiled; these can: "
            f"{', '.join(sorted(known))}."
        )
    return known[name]


def check_kind(boosted: Boosted, model: Any, *, is_classifier: bool) -> None:
    """Refuse an estimator whose objective is of the other kind: its scores are not its answer."""
    if is_classifier != (boosted.n_classes > 0):
        raise TypeError(
            f"{type(model).__name__} with the objective {model.objective!r} cannot be compiled."
        )


def check_named_objective(model: Any) -> None:
    """Refuse an objective that is the user's own function; no file says what its scores mean."""
    if callable(model.objective):
        raise TypeError(f"{type(model).__name__} with a custom objective cannot be compiled.")


def as_numbers(values: Any, dtype: Any) -> NDArray[Any]:
    """Return a list of a document as an array of one dimension."""
    return np.asarray(values, dtype=dtype).reshape(-1)
