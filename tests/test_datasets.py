import numpy as np
import pytest

from tinyml import datasets


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYML_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_folder(monkeypatch):
    monkeypatch.delenv("TINYML_DATA", raising=False)


def write(path, n_train, n_test, **more):
    rng = np.random.default_rng(0)
    np.savez(
        path,
        X_train=rng.integers(-100, 100, (n_train, 3), dtype=np.int16),
        y_train=np.arange(n_train),
        X_test=rng.integers(-100, 100, (n_test, 3), dtype=np.int16),
        y_test=np.arange(n_test),
        **more,
    )


def test_digits_are_split_the_same_way_every_time_and_stay_whole():
    X_train, y_train, X_test, y_test = datasets.load("digits")
    again = datasets.load("digits")
    assert X_train.dtype == np.float32
    assert (X_train == np.round(X_train)).all()
    np.testing.assert_array_equal(again[0], X_train)
    np.testing.assert_array_equal(again[3], y_test)
    assert np.ptp(np.bincount(y_test)) <= 3
    assert len(X_train) == len(y_train)
    assert len(X_test) == len(y_test)


def test_digits_as_stored_are_small_integers():
    X_train, _, X_test, _ = datasets.load("digits", as_float=False)
    assert X_train.dtype == X_test.dtype == np.uint8
    np.testing.assert_array_equal(X_train, datasets.load("digits")[0])


def test_folder_with_parts_and_a_scale(folder):
    scale = np.array([0.5, 0.25, 2.0], dtype=np.float32)
    write(folder / "toy.npz", 5, 2, scale=scale)
    np.savez(folder / "toy.part2.npz", X_test=np.ones((4, 3), np.int16), y_test=np.zeros(4, int))
    stored = datasets.load("toy", as_float=False)
    scaled = datasets.load("toy")
    assert [len(a) for a in stored] == [5, 5, 6, 6]
    assert stored[0].dtype == np.int16
    assert scaled[2].dtype == np.float32
    np.testing.assert_array_equal(scaled[0], stored[0] * scale)
    np.testing.assert_array_equal(scaled[2], stored[2] * scale)


def test_names_lists_the_folder_without_the_parts(folder):
    write(folder / "toy.npz", 5, 2)
    write(folder / "toy.part2.npz", 5, 2)
    assert "toy" in datasets.names()
    assert not [name for name in datasets.names() if "part" in name]


def test_unknown_name_lists_the_known_ones(no_folder):
    with pytest.raises(
        ValueError, match=r"must be one of digits, .*usps10\. Got 'nothing' instead"
    ):
        datasets.load("nothing")


def test_folder_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYML_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="TINYML_DATA must name a folder"):
        datasets.load("usps10")


def test_broken_file(folder):
    (folder / "toy.npz").write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"toy\.npz cannot be read as an npz file"):
        datasets.load("toy")


def test_file_without_a_test_part(folder):
    np.savez(folder / "toy.npz", X_train=np.zeros((2, 2)), y_train=np.zeros(2))
    with pytest.raises(ValueError, match="holds no X_test, y_test"):
        datasets.load("toy")


def openml_of(shape, labels):
    def fetch(**_):
        return np.zeros(shape), np.resize(labels, shape[0])

    return fetch


def test_openml_keeps_the_published_split(no_folder, monkeypatch):
    fetch = openml_of((9298, 256), [str(k) for k in range(1, 11)])
    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    X_train, y_train, X_test, y_test = datasets.load("usps10")
    assert X_train.shape == (7291, 256)
    assert X_test.shape == (2007, 256)
    assert X_train.dtype == np.float32
    assert y_train.dtype.kind == y_test.dtype.kind == "i"


def test_openml_without_a_published_split_keeps_words_as_labels(no_folder, monkeypatch):
    monkeypatch.setattr("sklearn.datasets.fetch_openml", openml_of((19020, 10), ["g", "h"]))
    X_train, y_train, X_test, _ = datasets.load("magic_gamma")
    assert (len(X_train), len(X_test)) == (13314, 5706)
    assert set(y_train) == {"g", "h"}


def test_openml_of_another_shape(no_folder, monkeypatch):
    monkeypatch.setattr("sklearn.datasets.fetch_openml", openml_of((10, 2), ["a"]))
    with pytest.raises(ValueError, match=r"must have the shape \(20000, 16\) of letter"):
        datasets.load("letter")


def test_openml_out_of_reach(no_folder, monkeypatch):
    def fetch(**_):
        raise OSError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    with pytest.raises(RuntimeError, match=r"could not be fetched from OpenML .* TINYML_DATA"):
        datasets.load("mnist")


@pytest.mark.parametrize(
    ("name", "shape"), [("usps10", (7291, 256)), ("letter", (16000, 16)), ("mnist", (60000, 784))]
)
def test_published_sizes(data_folder, name, shape):
    X_train, _, X_test, _ = datasets.load(name)
    assert X_train.shape == shape
    assert X_test.shape[1] == shape[1]
