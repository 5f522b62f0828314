"""Every model of scikit-learn that can be lowered, on real data: rows decided as it does.

    TINYML_DATA=... python benchmarks/sklearn_models.py [name ...]

Models are fitted on at most 3 000 training rows and compiled with 8 and with 16 bits; programs are
compared with scikit-learn's own `predict` on all test rows. What is compared of a regressor is the
share of the variance of scikit-learn's predictions that the program's explain. Trees and forests
have a benchmark of their own, imported_trees.py.
"""

import argparse
import warnings

import numpy as np
from sklearn.base import clone, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import (
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.metrics import r2_score
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, NuSVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

import tinyml
from tinyml.datasets import load

MOST_ROWS = 3_000
SEED = {"random_state": 0}
DIGITS, MIXED, LETTERS, USPS = "optdigits", "magic_gamma", "letter", "usps10"
REGRESSION = ("ccpp", "elevators")
SMOOTH = ("ccpp", "abalone", "california", "air_quality_no2")
WHOLE = (DIGITS, LETTERS, "covtype_15k")  # numbers, which are taken as they are


def scaled(model):
    return make_pipeline(StandardScaler(), model)


def squeezed(model):
    return make_pipeline(MinMaxScaler(), model)


def few(model, n=6):
    """A model of a few directions of equal spread."""
    return make_pipeline(StandardScaler(), PCA(n, whiten=True, **SEED), model)


FOREST = RandomForestClassifier(8, max_depth=6, **SEED)
LOGISTIC = LogisticRegression(max_iter=1000)
BINS = {"n_bins": 5, "quantile_method": "averaged_inverted_cdf"}
SVM = LinearSVC(**SEED)
PARTS = ColumnTransformer(
    [("a", StandardScaler(), slice(0, 4)), ("b", MinMaxScaler(), slice(4, 8))],
    remainder="passthrough",
)
MEMBERS = [("logistic", LOGISTIC), ("forest", FOREST), ("bayes", GaussianNB())]

MODELS = {  # an estimator, and the sets that suit it
    "LogisticRegression": (scaled(LOGISTIC), (DIGITS, MIXED, LETTERS)),
    "LinearSVC": (scaled(SVM), (DIGITS, MIXED, LETTERS)),
    "RidgeClassifier": (scaled(RidgeClassifier()), (DIGITS, MIXED)),
    "SGDClassifier": (scaled(SGDClassifier(**SEED)), (DIGITS, MIXED)),
    "Perceptron": (scaled(Perceptron(**SEED)), (DIGITS, MIXED)),
    "LinearDiscriminantAnalysis": (LinearDiscriminantAnalysis(), (DIGITS, MIXED, LETTERS)),
    "QuadraticDiscriminantAnalysis": (few(QuadraticDiscriminantAnalysis()), (DIGITS, MIXED)),
    "SVC, rbf": (SVC(), (DIGITS, USPS, LETTERS)),
    "SVC, rbf, scaled": (scaled(SVC()), (DIGITS, USPS, MIXED, LETTERS)),
    "SVC, linear": (squeezed(SVC(kernel="linear")), (DIGITS, LETTERS)),
    "SVC, poly": (squeezed(SVC(kernel="poly", degree=2)), (DIGITS, USPS, LETTERS)),
    "SVC, sigmoid": (scaled(SVC(kernel="sigmoid", gamma=0.005)), (DIGITS, USPS, LETTERS)),
    "NuSVC": (squeezed(NuSVC(nu=0.05)), (DIGITS, USPS, LETTERS)),
    "OneClassSVM": (squeezed(OneClassSVM(nu=0.1, gamma=0.5)), (MIXED, LETTERS)),
    "GaussianNB": (GaussianNB(), (MIXED, "har_feat", LETTERS, USPS)),
    "BernoulliNB": (squeezed(BernoulliNB(binarize=0.4)), (DIGITS, USPS, LETTERS)),
    "MultinomialNB": (MultinomialNB(), (DIGITS, "mnist", LETTERS)),
    "ComplementNB": (ComplementNB(), (DIGITS, LETTERS)),
    "KNeighborsClassifier": (scaled(KNeighborsClassifier(3)), (DIGITS, USPS, MIXED)),
    "NearestCentroid": (NearestCentroid(), (DIGITS, USPS, LETTERS)),
    "MLPClassifier, relu": (scaled(MLPClassifier(24, **SEED)), (DIGITS, MIXED, LETTERS)),
    "MLPClassifier, tanh": (
        scaled(MLPClassifier(24, activation="tanh", **SEED)),
        (DIGITS, MIXED, LETTERS),
    ),
    "MLPClassifier, logistic": (
        scaled(MLPClassifier(24, activation="logistic", **SEED)),
        (DIGITS, MIXED, LETTERS),
    ),
    "KMeans": (KMeans(10, n_init=1, **SEED), (DIGITS, LETTERS)),
    "MiniBatchKMeans": (MiniBatchKMeans(10, n_init=1, **SEED), (DIGITS, LETTERS)),
    "GaussianMixture, full": (few(GaussianMixture(4, **SEED)), (DIGITS, USPS, LETTERS)),
    "GaussianMixture, tied": (
        few(GaussianMixture(4, covariance_type="tied", **SEED)),
        (DIGITS, LETTERS),
    ),
    "GaussianMixture, diag": (
        few(GaussianMixture(4, covariance_type="diag", **SEED)),
        (DIGITS, USPS, LETTERS),
    ),
    "GaussianMixture, spherical": (
        few(GaussianMixture(4, covariance_type="spherical", **SEED)),
        (DIGITS, LETTERS),
    ),
    "BayesianGaussianMixture": (
        few(BayesianGaussianMixture(n_components=4, max_iter=500, **SEED)),
        (DIGITS, USPS, LETTERS),
    ),
    "CalibratedClassifierCV, sigmoid": (
        scaled(CalibratedClassifierCV(SVM, cv=3)),
        (DIGITS, MIXED),
    ),
    "CalibratedClassifierCV, isotonic": (
        scaled(CalibratedClassifierCV(SVM, cv=3, method="isotonic")),
        (DIGITS, MIXED),
    ),
    "OneVsRestClassifier": (scaled(OneVsRestClassifier(SVM)), (DIGITS, LETTERS)),
    "OneVsOneClassifier": (scaled(OneVsOneClassifier(SVM)), (DIGITS, "har_feat", "covtype_15k")),
    "VotingClassifier, hard": (scaled(VotingClassifier(MEMBERS[:2])), (DIGITS, MIXED)),
    "VotingClassifier, soft": (
        scaled(VotingClassifier(MEMBERS[:2], voting="soft")),
        (DIGITS, MIXED),
    ),
    "ColumnTransformer": (make_pipeline(PARTS, FOREST), (MIXED, LETTERS)),
    "FeatureUnion": (
        make_pipeline(make_union(StandardScaler(), PCA(4, **SEED)), LOGISTIC),
        (DIGITS, LETTERS),
    ),
    "PolynomialFeatures": (
        few(make_pipeline(PolynomialFeatures(2), LOGISTIC)),
        (MIXED, LETTERS, USPS, "har_feat"),
    ),
    "KBinsDiscretizer, one-hot": (
        make_pipeline(KBinsDiscretizer(encode="onehot-dense", **BINS), LOGISTIC),
        (MIXED, LETTERS),
    ),
    "KBinsDiscretizer, ordinal": (
        make_pipeline(KBinsDiscretizer(encode="ordinal", **BINS), FOREST),
        (MIXED, LETTERS),
    ),
    "OneHotEncoder": (
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), LOGISTIC),
        (LETTERS, DIGITS),
    ),
    "OrdinalEncoder": (
        make_pipeline(
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            DecisionTreeClassifier(max_depth=8, **SEED),
        ),
        (LETTERS, DIGITS),
    ),
    "SimpleImputer": (make_pipeline(SimpleImputer(), StandardScaler(), LOGISTIC), (DIGITS, MIXED)),
    "PCA": (make_pipeline(StandardScaler(), PCA(8, **SEED), LOGISTIC), (DIGITS, USPS, LETTERS)),
    "TruncatedSVD": (make_pipeline(TruncatedSVD(8, **SEED), LOGISTIC), (DIGITS, USPS, LETTERS)),
    "SelectKBest": (make_pipeline(SelectKBest(k=8), StandardScaler(), LOGISTIC), (DIGITS, LETTERS)),
    "RobustScaler": (make_pipeline(RobustScaler(), LOGISTIC), (MIXED, LETTERS)),
    "MaxAbsScaler": (make_pipeline(MaxAbsScaler(), LOGISTIC), (DIGITS, LETTERS)),
    "LinearRegression": (LinearRegression(), REGRESSION),
    "LinearSVR": (scaled(LinearSVR(C=10, **SEED)), REGRESSION),
    "SVR": (scaled(SVR(C=10)), SMOOTH),
    "NuSVR": (scaled(NuSVR(C=10)), SMOOTH),
    "KNeighborsRegressor": (scaled(KNeighborsRegressor()), SMOOTH),
    "MLPRegressor": (
        scaled(MLPRegressor(hidden_layer_sizes=24, max_iter=500, **SEED)),
        ("california", "abalone"),
    ),
    "VotingRegressor": (
        VotingRegressor(
            [("ridge", Ridge()), ("forest", RandomForestRegressor(8, max_depth=6, **SEED))]
        ),
        ("ccpp", "abalone"),
    ),
    "MultiOutputRegressor": (MultiOutputRegressor(Ridge()), REGRESSION),
}


def rows(name, label):
    """Return training and test rows, with holes where these are what a model is for."""
    X, y, X_test, _ = load(name, as_float=name not in WHOLE)
    chosen = np.random.default_rng(0).permutation(len(X))[:MOST_ROWS]
    X, y = X[chosen], y[chosen]
    if label.startswith("SimpleImputer"):
        X, X_test = (_with_holes(part, seed) for seed, part in enumerate((X, X_test)))
    if label.startswith("MultiOutput"):
        y = np.column_stack([y, X[:, 0]])
    return X, y, X_test


def _with_holes(X, seed):
    holes = np.random.default_rng(seed).random(X.shape) < 0.1
    return np.where(holes, np.nan, X.astype(np.float64))


def agreement(program, model, X):
    """Return the share of rows decided alike; of a regressor that of the variance explained."""
    wanted, got = model.predict(X), program.predict(X)
    return r2_score(wanted, got) if is_regressor(model) else float(np.mean(wanted == got))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of the names of models")
    names = parser.parse_args().names
    print("| model | data | agreement at 8 bits, % | at 16 bits, % | bytes at 8 | at 16 |")
    print("|---|---|---|---|---|---|")
    for label, (estimator, sets) in MODELS.items():
        if names and not any(label.startswith(name) for name in names):
            continue
        for name in sets:
            print("| " + " | ".join(row(label, estimator, name)) + " |", flush=True)


def row(label, estimator, name):
    X, y, X_test = rows(name, label)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: any fit will do
        model = clone(estimator).fit(X, y)
        programs = [tinyml.compile(model, X, bits=bits) for bits in (8, 16)]
        alike = [f"{100 * agreement(p, model, X_test):.2f}" for p in programs]
    return [label, name, *alike, *(str(p.table_bytes) for p in programs)]


if __name__ == "__main__":
    main()
