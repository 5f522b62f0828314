"""The hard threshold keeps exactly the asked number of entries, ties or not."""

import naive
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinyml.training.proximal import hard_threshold, largest

# few distinct values, so that most arrays have ties
matrices = arrays(
    np.float32,
    array_shapes(min_dims=1, max_dims=2, max_side=8),
    elements=st.integers(-3, 3).map(float),
)


@given(matrices, st.data())
def test_count_is_exact_and_the_choice_that_of_the_naive_twin(values, data):
    count = data.draw(st.integers(0, values.size))
    mask = largest(values, count)
    assert np.count_nonzero(mask) == count
    np.testing.assert_array_equal(mask, naive.largest(values, count))


@given(matrices, st.data())
def test_hard_threshold_is_the_nearest_sparse_array(values, data):
    count = data.draw(st.integers(0, values.size))
    result = values.copy()
    mask = hard_threshold(result, count)
    np.testing.assert_array_equal(result, np.where(mask, values, 0))
    dropped = np.sort(values.ravel() ** 2)[: values.size - count]
    assert ((values - result) ** 2).sum() == dropped.sum()
