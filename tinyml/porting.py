"""The interface of micromlgen around fixed point: `port`, and the C++ class that it writes.

micromlgen writes a class with ``predict(float *x)`` around floating point. Here the same class
quantises the features and asks the integer program, so that a sketch need not change.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.utils.validation import check_is_fitted

from tinyml.codegen.c import c_string, check_name
from tinyml.codegen.compile import compile as compile_program
from tinyml.codegen.lower import final_step, supported
from tinyml.codegen.typical import needs_precision, typical_rows

if TYPE_CHECKING:
    from tinyml.codegen.program import Program

PLATFORMS = ("arduino", "attiny")
_CLASS_NAMES = {
    "OneClassSVM": "OneClassSVM",
    "SVC": "SVM",
    "DecisionTreeClassifier": "DecisionTree",
    "RandomForestClassifier": "RandomForest",
    **{
        name: name
        for name in (
            "DecisionTreeRegressor",
            "GaussianNB",
            "LinearRegression",
            "LogisticRegression",
            "PCA",
            "RandomForestRegressor",
            "XGBClassifier",
        )
    },
}
"""What micromlgen calls the classes of models and of whatever is derived from them."""
_MICROMLGENS_OWN = {"KFFT", "PrincipalFFT", "RVC", "SEFR"}
_MICROMLGENS_OPTIONS = {"lookup_cos", "lookup_sin", "optimize_sin", "tmp_file"}


def port(
    model: Any,
    classname: str | None = None,
    classmap: Mapping[int, str] | None = None,
    platform: str = "arduino",
    precision: int | None = None,
    *,
    X: Any = None,
    bits: int | str = "auto",
    layout: str = "auto",
    input_range: tuple[float, float] | None = None,
    **kwargs: Any,
) -> str:
    """Write a fitted model as the C++ class that micromlgen would write, in fixed point.

    ``from tinyml import port`` takes the place of ``from micromlgen import port``. The class is
    ``Eloquent::ML::Port::<classname>``; `predict` returns the index of a class, of an outlier
    detector 0 for outliers and 1 for others, of a regressor its value. A PCA has ``transform(x,
    dest)``, which writes to `x` if there is no `dest`. Constants stay in flash and objects of the
    class take no RAM. The names of `classmap` do, as in any sketch, where `predictLabel` is used.

    Parameters
    ----------
    model : estimator
        A fitted predictor or pipeline as `compile` takes it, or a PCA. What cannot be compiled but
        is known to micromlgen (RVC, SEFR and PrincipalFFT) is left to it, with a warning.
    classname : str, optional
        Name of the C++ class; by default micromlgen's, or that of the model.
    classmap : dict of int to str, optional
        Names of classes by their index, for ``predictLabel(x)`` and ``idxToLabel(classIdx)``.
    platform : {"arduino", "attiny"}
        micromlgen passes constants in another way to an ATtiny. Here the text is the same.
    precision : int, optional
        Digits of the constants of a model that is left to micromlgen; integers have none.
    X : array-like of shape (n_samples, n_features), optional
        Representative rows, as for `compile`. Without them ranges come from the parameters of the
        model: rows are drawn between the thresholds of trees, from the support vectors, the stored
        neighbours, or the means and variances of classes, components or a scaler, or between its
        limits. Features are whole numbers if all that such rows are made of is, of trees if
        all thresholds are multiples of one half. Trees that were fitted on missing values need X.
    bits, layout, input_range
        As in `compile`; ``"auto"`` is 16 for trees of real features without X.
    **kwargs
        Further parameters of micromlgen: `tmp_file`, `optimize_sin`, `lookup_cos`, `lookup_sin`.

    Returns
    -------
    text : str
        A header in C++11.

    Raises
    ------
    TypeError
        If a step of the model is of a kind that cannot be compiled, or there are several targets.
    ValueError
        If a parameter is out of range, or X is needed and not given.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from tinyml import port
    >>> iris = load_iris()
    >>> classifier = SVC(kernel="linear").fit(iris.data, iris.target)
    >>> text = port(classifier, classmap=dict(enumerate(iris.target_names)))
    >>> "class SVM {" in text
    True
    """
    _check_parameters(classname, classmap, platform, kwargs)
    if _is_left_to_micromlgen(model):
        options = {"precision": precision, **kwargs}
        return _by_micromlgen(model, classname, classmap, platform, options)
    check_is_fitted(model)
    if X is None:
        X = typical_rows(model)
        bits = 16 if bits == "auto" and needs_precision(model, X) else bits
    program = _compiled(model, X, {"bits": bits, "layout": layout, "input_range": input_range})
    return _text(program, classname or _class_name(model), classmap, isinstance(model, PCA))


def _check_parameters(classname: Any, classmap: Any, platform: Any, others: Any) -> None:
    if platform not in PLATFORMS:
        raise ValueError(
            f"The 'platform' parameter of port must be 'arduino' or 'attiny'. Got {platform!r} "
            "instead."
        )
    if unknown := sorted(set(others) - _MICROMLGENS_OPTIONS):
        raise TypeError(f"port has no parameter {unknown[0]!r}.")
    if classname is not None and not _is_class_name(classname):
        raise ValueError(
            "The 'classname' parameter of port must be a C++ identifier of at most 35 letters, "
            "digits and single underscores that begins with a letter. "
            f"Got {classname!r} instead."
        )
    if classmap is not None and not _is_class_map(classmap):
        raise ValueError(
            "The 'classmap' parameter of port must give names by index, from 0 to 255. "
            f"Got {classmap!r} instead."
        )


def _is_class_name(name: Any) -> bool:
    try:
        check_name(name)
        check_name(_prefix(name))
    except ValueError:
        return False
    return True


def _is_class_map(names: Any) -> bool:
    return isinstance(names, Mapping) and all(
        isinstance(k, int | np.integer) and 0 <= k < 256 and isinstance(name, str)
        for k, name in names.items()
    )


def _class_name(model: Any) -> str:
    final = final_step(model)
    names = (cls.__name__ for cls in type(final).__mro__)
    known = (_CLASS_NAMES[name] for name in names if name in _CLASS_NAMES)
    return next(known, re.sub("_+", "_", type(final).__name__.strip("_"))[:35])


def _prefix(classname: str) -> str:
    """Return what the names of the integer program begin with, outside of the namespace."""
    return f"port_{classname}"


# What micromlgen alone knows ----------------------------------------------------------------------


def _is_left_to_micromlgen(model: Any) -> bool:
    names = {cls.__name__ for cls in type(model).__mro__}
    return bool(names & _MICROMLGENS_OWN) and not names & set(supported())


def _by_micromlgen(
    model: Any, classname: str | None, classmap: Any, platform: str, options: Mapping[str, Any]
) -> str:
    from micromlgen import port as write

    warnings.warn(
        f"{type(model).__name__} cannot be compiled; micromlgen writes it, in floating point.",
        stacklevel=3,
    )
    text = write(model, classname, classmap, platform, **options)
    # The compiler for AVR has only C's name of this header.
    return str(text).replace("#include <cstdarg>", "#include <stdarg.h>")


# The program --------------------------------------------------------------------------------------


def _compiled(model: Any, rows: Any, options: Mapping[str, Any]) -> Program:
    if isinstance(model, PCA):
        program = compile_program(_as_regressor(model), rows, **options)
        return replace(program, description=type(model).__name__)
    program = compile_program(model, rows, **options)
    if not program.has_predict:
        raise TypeError(
            f"port needs a model of one target. Got {program.n_outputs}; compile takes several."
        )
    return program


def _as_regressor(model: PCA) -> LinearRegression:
    """A projection is a linear model with a target for each component."""
    weights = model.components_
    if model.whiten:
        weights = weights / np.sqrt(model.explained_variance_)[:, None]
    regressor = LinearRegression()
    regressor.coef_, regressor.intercept_ = weights, -weights @ model.mean_
    regressor.n_features_in_ = weights.shape[1]
    return regressor


# The class ----------------------------------------------------------------------------------------

_CLASS = """\

namespace Eloquent {
    namespace ML {
        namespace Port {

            /* Its functions need no object, so that one takes no RAM. */
            class @CLASS@ {
                public:

@MEMBERS@
            };
        }
    }
}
"""

_PREDICT = """\
/* @MEANING@ */
static @TYPE@ predict(float *x) {
    @name@_input_t raw[@NAME@_N_FEATURES];
    @name@_quantize(x, raw);
    return @ANSWER@;
}
"""

_LABELS = """\

/* Name of the predicted class. */
static const char* predictLabel(float *x) {
    return idxToLabel((uint8_t)predict(x));
}

/* Name of a class by its index. */
static const char* idxToLabel(uint8_t classIdx) {
    switch (classIdx) {
@CASES@
        default: return "unknown";
    }
}
"""

_TRANSFORM = """\
/* Projects x to the first @N@ numbers of dest, or of x itself if there is no dest. */
static void transform(float *x, float *dest = nullptr) {
    @name@_input_t raw[@NAME@_N_FEATURES];
    @name@_score_t out[@NAME@_N_OUTPUTS];
    @name@_quantize(x, raw);
    @name@_scores(raw, out);
    if (dest == nullptr) dest = x;
@STORES@
}
"""


def _text(program: Program, classname: str, classmap: Any, is_transformer: bool) -> str:
    name = _prefix(classname)
    members = _transform(program) if is_transformer else _predict(program)
    members = members.replace("@name@", name).replace("@NAME@", name.upper())
    if classmap is not None:
        members += _labels(program, classmap)
    body = _indented(members.splitlines(), 20)
    text = _CLASS.replace("@CLASS@", classname).replace("@MEMBERS@", body)
    return f"#pragma once\n{program.to_c(name)}{text}"


def _labels(program: Program, classmap: Mapping[int, str]) -> str:
    if program.classes is None:
        raise ValueError(
            f"The 'classmap' parameter of port must be None for {program.description}, which "
            "predicts no classes."
        )
    cases = [f"case {k}: return {c_string(label)};" for k, label in classmap.items()]
    return _LABELS.replace("@CASES@", _indented(cases, 8))


def _predict(program: Program) -> str:
    if program.head == "identity":
        meaning, ctype = "What the model predicts for a row.", "float"
        answer = _real("@name@_predict(raw)", program.output_fracs[0])
    else:
        meaning, ctype, answer = "Index of the class of a row.", "int", "(int)@name@_predict(raw)"
    text = _PREDICT.replace("@MEANING@", meaning).replace("@TYPE@", ctype)
    return text.replace("@ANSWER@", answer)


def _transform(program: Program) -> str:
    stores = [
        f"dest[{k}] = {_real(f'out[{k}]', frac)};" for k, frac in enumerate(program.output_fracs)
    ]
    text = _TRANSFORM.replace("@N@", str(len(stores)))
    return text.replace("@STORES@", _indented(stores, 4))


def _real(expression: str, frac: int) -> str:
    """Return a score as a float; nine digits are enough for any power of two."""
    return f"(float){expression} * {2.0**-frac:.9e}f"


def _indented(lines: Sequence[str], n: int) -> str:
    return "\n".join(" " * n + line if line else "" for line in lines)
