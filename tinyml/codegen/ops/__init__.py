"""The ops: each one class with its type, its integer meaning and its C side by side."""

from tinyml.codegen.ops.base import Op, Store, Table
from tinyml.codegen.ops.distance import SquaredDistance
from tinyml.codegen.ops.elementwise import Gather, Input, Interpolate, Lookup, Narrow, Subtract
from tinyml.codegen.ops.heads import ArgMax, Identity, Sign
from tinyml.codegen.ops.linear import MatVec
from tinyml.codegen.ops.trees import IntTree, TreeWalk

__all__ = [
    "ArgMax",
    "Gather",
    "Identity",
    "Input",
    "IntTree",
    "Interpolate",
    "Lookup",
    "MatVec",
    "Narrow",
    "Op",
    "Sign",
    "SquaredDistance",
    "Store",
    "Subtract",
    "Table",
    "TreeWalk",
]
