"""tinyml: compressed classical models, from scikit-learn to fixed-point C.

`compile` turns a fitted model or pipeline into a `Program` of integer operations; `measure` builds
it for a board, runs it on the simulated chip and returns a `Report`. `read_forest` takes boosted
trees from files of XGBoost or LightGBM; `port` writes a C++ class with micromlgen's interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyml.codegen.compile import compile
    from tinyml.codegen.program import Program
    from tinyml.device.measure import Report, measure
    from tinyml.imported import read_forest
    from tinyml.porting import port

__version__ = "0.1.0"
__all__ = ["Program", "Report", "__version__", "compile", "measure", "port", "read_forest"]

_HOME = {
    "compile": "tinyml.codegen.compile",
    "Program": "tinyml.codegen.program",
    "measure": "tinyml.device.measure",
    "Report": "tinyml.device.measure",
    "port": "tinyml.porting",
    "read_forest": "tinyml.imported",
}


def __getattr__(name: str) -> Any:
    """Load public names on first use, so that importing the package stays quick."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tinyml' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
