"""Estimators made for microcontrollers, one module per family."""

from .bonsai import BonsaiClassifier, BonsaiRegressor
from .compact_boosting import CompactBoostingClassifier, CompactBoostingRegressor
from .compact_svm import CompactSVC, CompactSVR
from .fastgrnn import FastGRNNClassifier, FastGRNNRegressor
from .l1_forest import L1ForestClassifier, L1ForestRegressor
from .protonn import ProtoNNClassifier, ProtoNNRegressor
from .pruned_forest import PrunedForestClassifier, PrunedForestRegressor
from .sequence_scaler import SequenceScaler

__all__ = [
    "BonsaiClassifier",
    "BonsaiRegressor",
    "CompactBoostingClassifier",
    "CompactBoostingRegressor",
    "CompactSVC",
    "CompactSVR",
    "FastGRNNClassifier",
    "FastGRNNRegressor",
    "L1ForestClassifier",
    "L1ForestRegressor",
    "ProtoNNClassifier",
    "ProtoNNRegressor",
    "PrunedForestClassifier",
    "PrunedForestRegressor",
    "SequenceScaler",
]
