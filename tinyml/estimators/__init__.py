"""Estimators made for microcontrollers, one module per family."""

from .bonsai import BonsaiClassifier, BonsaiRegressor
from .protonn import ProtoNNClassifier, ProtoNNRegressor

__all__ = ["BonsaiClassifier", "BonsaiRegressor", "ProtoNNClassifier", "ProtoNNRegressor"]
