"""What every estimator shares, and the one place that touches scikit-learn's private modules."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight
from threadpoolctl import threadpool_limits

__all__ = [
    "Interval",
    "StrOptions",
    "_check_sample_weight",
    "_fit_context",
    "blas_single_thread",
    "progress",
]

T = TypeVar("T")


def blas_single_thread() -> threadpool_limits:
    """Context in which BLAS uses one thread, so that sums come in one order whatever `n_jobs`."""
    return threadpool_limits(limits=1, user_api="blas")


def progress(items: Iterable[T], description: str, *, verbose: bool | int) -> Iterator[T]:
    """Iterate over `items`, with a bar on stderr if `verbose`."""
    if not verbose:
        return iter(items)
    from rich.console import Console
    from rich.progress import track

    return iter(track(items, description, console=Console(stderr=True)))
