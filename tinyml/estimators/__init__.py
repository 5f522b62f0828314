"""Estimators made for microcontrollers, one module per family."""

from .bonsai import BonsaiClassifier, BonsaiRegressor
from .compact_boosting import CompactBoostingClassifier, CompactBoostingRegressor
from .fastgrnn import FastGRNNClassifier, FastGRNNRegressor
from .protonn import ProtoNNClassifier, ProtoNNRegressor
from .pruned_forest import PrunedForestClassifier, PrunedForestRegressor
from .sequence_scaler import SequenceScaler

__all__ = [
    "BonsaiClassifier",
    "BonsaiRegressor",
    "CompactBoostingClassifier",
    "CompactBoostingRegressor",
    "FastGRNNClassifier",
    "FastGRNNRegressor",
    "ProtoNNClassifier",
    "ProtoNNRegressor",
    "PrunedForestClassifier",
    "PrunedForestRegressor",
    "SequenceScaler",
]
