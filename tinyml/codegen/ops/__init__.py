"""The ops: each one class with its type, its integer meaning and its C side by side."""

from tinyml.codegen.ops.base import Op, Store, Table
from tinyml.codegen.ops.distance import AbsoluteDistance, SquaredDistance
from tinyml.codegen.ops.elementwise import (
    Add,
    Child,
    Gather,
    Input,
    Interpolate,
    Lookup,
    Mul,
    Narrow,
    Scale,
)
from tinyml.codegen.ops.heads import ArgMax, Identity, Sign
from tinyml.codegen.ops.linear import ChosenMatVec, MatVec
from tinyml.codegen.ops.scan import Local, Scan
from tinyml.codegen.ops.tree_code import TreeCode
from tinyml.codegen.ops.tree_table import TreeTable
from tinyml.codegen.ops.trees import IntTree, TreeWalk

__all__ = [
    "AbsoluteDistance",
    "Add",
    "ArgMax",
    "Child",
    "ChosenMatVec",
    "Gather",
    "Identity",
    "Input",
    "IntTree",
    "Interpolate",
    "Local",
    "Lookup",
    "MatVec",
    "Mul",
    "Narrow",
    "Op",
    "Scale",
    "Scan",
    "Sign",
    "SquaredDistance",
    "Store",
    "Table",
    "TreeCode",
    "TreeTable",
    "TreeWalk",
]
