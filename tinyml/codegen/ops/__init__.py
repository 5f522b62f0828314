"""The ops: each one class with its type, its integer meaning and its C side by side."""

from tinyml.codegen.ops.base import Op, Store, Table
from tinyml.codegen.ops.choices import Nearest, PairVotes, Winner
from tinyml.codegen.ops.distance import AbsoluteDistance, ScaledDistance, SquaredDistance
from tinyml.codegen.ops.elementwise import (
    Above,
    Add,
    Child,
    Fill,
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
from tinyml.codegen.ops.vectors import BelowLargest, Join, Normalize

__all__ = [
    "Above",
    "AbsoluteDistance",
    "Add",
    "ArgMax",
    "BelowLargest",
    "Child",
    "ChosenMatVec",
    "Fill",
    "Gather",
    "Identity",
    "Input",
    "IntTree",
    "Interpolate",
    "Join",
    "Local",
    "Lookup",
    "MatVec",
    "Mul",
    "Narrow",
    "Nearest",
    "Normalize",
    "Op",
    "PairVotes",
    "Scale",
    "ScaledDistance",
    "Scan",
    "Sign",
    "SquaredDistance",
    "Store",
    "Table",
    "TreeCode",
    "TreeTable",
    "TreeWalk",
    "Winner",
]
