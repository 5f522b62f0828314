"""Lowerings of scikit-learn's models and transformers, a few lines each."""

from tinyml.codegen.lower_sklearn import (  # noqa: F401  importing them registers them
    bayes,
    clusters,
    composed,
    features,
    linear,
    neighbours,
    networks,
    vectors,
)
