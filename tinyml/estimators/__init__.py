"""Estimators made for microcontrollers, one module per family."""

from .protonn import ProtoNNClassifier, ProtoNNRegressor

__all__ = ["ProtoNNClassifier", "ProtoNNRegressor"]
