"""Real data sets by name: scikit-learn's own, a folder of npz files, or OpenML.

`digits` ships with scikit-learn. Every other name is looked for in the folder that the environment
variable `TINYML_DATA` names, and then among the sets that have a public home on OpenML, which are
fetched once into scikit-learn's data folder.
"""

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["load", "names"]

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def load(name: str, *, as_float: bool = True) -> Split:
    """Load a data set, split into training and held-out rows.

    Parameters
    ----------
    name : str
        One of `names()`.
    as_float : bool, default=True
        True gives float32 in the units of the data set; features that are whole numbers, such as
        pixels, stay whole. False gives the numbers as they are stored.

    Returns
    -------
    X_train, y_train, X_test, y_test : ndarray
        The split is the published one where there is one, and fixed otherwise.

    Examples
    --------
    >>> from tinyml.datasets import load
    >>> X_train, y_train, X_test, y_test = load("digits")
    >>> X_train.shape, X_test.shape
    ((1257, 64), (540, 64))
    """
    if name == "digits":
        return _digits(as_float)
    folder = _data_folder()
    if folder is not None and (folder / f"{name}.npz").is_file():
        return _from_folder(folder, name, as_float)
    if name in OPENML:
        return _from_openml(name, as_float)
    raise ValueError(
        f"The 'name' parameter of load must be one of {', '.join(names())}. Got {name!r} instead."
    )


def names() -> list[str]:
    """Return the names that `load` knows here, those of the folder `TINYML_DATA` included."""
    folder = _data_folder()
    stored = [] if folder is None else [p.stem for p in folder.glob("*.npz") if "." not in p.stem]
    return sorted({"digits", *OPENML, *stored})


def _digits(as_float: bool) -> Split:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32 if as_float else np.uint8)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.3, stratify=y, random_state=0
    )
    return X_train, y_train, X_test, y_test


# ------------------------------------------------------------------------------ a folder of files


def _data_folder() -> Path | None:
    folder = os.environ.get("TINYML_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise ValueError(
            f"The environment variable TINYML_DATA must name a folder. Got {folder!r} instead."
        )
    return Path(folder)


def _from_folder(folder: Path, name: str, as_float: bool) -> Split:
    """Read `name.npz` and the parts that continue it, `name.part2.npz` and so on."""
    parts = [_read(path) for path in _parts(folder, name)]
    missing = {"X_train", "y_train", "X_test", "y_test"}.difference(*parts)
    if missing:
        raise ValueError(f"{folder / name}.npz holds no {', '.join(sorted(missing))}.")
    X_train, y_train, X_test, y_test = (
        np.concatenate([part[key] for part in parts if key in part])
        for key in ("X_train", "y_train", "X_test", "y_test")
    )
    if as_float:
        scale = parts[0].get("scale")
        X_train, X_test = _in_units(X_train, scale), _in_units(X_test, scale)
    return X_train, y_train, X_test, y_test


def _parts(folder: Path, name: str) -> Iterator[Path]:
    path, k = folder / f"{name}.npz", 1
    while path.is_file():
        yield path
        k += 1
        path = folder / f"{name}.part{k}.npz"


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an npz file: {error}.") from error


def _in_units(X: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    X = X.astype(np.float32)
    return X if scale is None else X * scale.astype(np.float32)


# ------------------------------------------------------------------------------ OpenML


@dataclass(frozen=True)
class _Public:
    """A data set on OpenML: its number, how many rows come first for training, and its shape."""

    number: int
    n_train: int | None  # None: no standard split, 30 % are held out at random
    shape: tuple[int, int]


OPENML = {
    "isolet": _Public(300, 6238, (7797, 617)),
    "letter": _Public(6, 16000, (20000, 16)),
    "magic_gamma": _Public(1120, None, (19020, 10)),
    "mnist": _Public(554, 60000, (70000, 784)),
    "optdigits": _Public(28, 3823, (5620, 64)),
    "usps10": _Public(41082, 7291, (9298, 256)),
}


def _from_openml(name: str, as_float: bool) -> Split:
    from sklearn.model_selection import train_test_split

    public = OPENML[name]
    X, y = _fetch(name, public.number)
    if X.shape != public.shape:
        raise ValueError(
            f"OpenML's data set {public.number} must have the shape {public.shape} of {name}. "
            f"Got {X.shape} instead."
        )
    if as_float:
        X = X.astype(np.float32)
    labels = _whole_labels(y)
    if public.n_train is not None:
        n = public.n_train
        return X[:n], labels[:n], X[n:], labels[n:]
    X_train, X_test, y_train, y_test = train_test_split(
        X, labels, test_size=0.3, stratify=labels, random_state=0
    )
    return X_train, y_train, X_test, y_test


def _fetch(name: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import fetch_openml

    # pandas reads these files tens of times faster, but is no dependency
    parser = "pandas" if importlib.util.find_spec("pandas") else "liac-arff"
    try:
        X, y = fetch_openml(
            data_id=number, return_X_y=True, as_frame=False, parser=parser, n_retries=1
        )
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f"The data set {name!r} could not be fetched from OpenML ({error}); check the network, "
            "or put it into a folder and name that folder in TINYML_DATA."
        ) from error
    return np.asarray(X), np.asarray(y)


def _whole_labels(y: np.ndarray) -> np.ndarray:
    """Return labels as integers where they are numbers in text, as OpenML gives them."""
    try:
        return y.astype(np.int64)
    except ValueError:
        return y
