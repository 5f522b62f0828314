"""The one table of everything that can be lowered: estimators with small fast parameters, and data.

A new lowering adds a line to `INSTANCES`. Tests take the models from `fitted` and `compiled`, which
do each piece of work once in a session; nobody changes what these return.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_linnerud,
    load_wine,
)
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import (
    SelectFromModel,
    SelectKBest,
    SelectPercentile,
    VarianceThreshold,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLarsCV,
    LassoLarsIC,
    LinearRegression,
    LogisticRegression,
    OrthogonalMatchingPursuit,
    OrthogonalMatchingPursuitCV,
    Perceptron,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TheilSenRegressor,
)
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
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
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

import tinyml
from tinyml.estimators import (
    BonsaiClassifier,
    BonsaiRegressor,
    CompactBoostingClassifier,
    CompactBoostingRegressor,
    CompactSVC,
    CompactSVR,
    FastGRNNClassifier,
    FastGRNNRegressor,
    L1ForestClassifier,
    L1ForestRegressor,
    ProtoNNClassifier,
    ProtoNNRegressor,
    PrunedForestClassifier,
    PrunedForestRegressor,
    SequenceScaler,
)


@dataclass(frozen=True)
class Instance:
    """An estimator that is yet to be fitted, and the name of the data it is meant for."""

    id: str
    estimator: BaseEstimator
    data: str

    @property
    def is_classifier(self) -> bool:
        """Whether it decides: ends in a classifier, or in a detector of outliers."""
        return not is_regressor(self.estimator)


# Data ---------------------------------------------------------------------------------------------


@cache
def data(name):
    """Return X and y of a data set that comes with scikit-learn."""
    return _frozen(*DATA[name]())


def _frozen(*arrays):
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _names(bunch):
    """Give the classes their names, so that string labels are met everywhere."""
    return bunch.data, bunch.target_names[bunch.target]


def _binary_digits():
    X, y = load_digits(return_X_y=True)
    return X.astype(np.uint8), y % 2


def _mixed():
    """Whole numbers of unlike ranges, some of them negative: counts, codes, temperatures."""
    X, y = load_breast_cancer(return_X_y=True)
    standard = (X[:, :10] - X[:, :10].mean(axis=0)) / X[:, :10].std(axis=0)
    reach = np.array([3, 9000, 40, 1, 250, 12, 2000, 7, 100, 20_000])
    shift = np.array([0, 0, 200, 2, 0, 30, 6000, 0, -50, 0])
    return np.round(standard * reach + shift).astype(np.int32), y


def _holes():
    """The same with holes: of one kind of row, of large values, and at random."""
    X, y = _mixed()
    X, rng = X.astype(np.float64), np.random.default_rng(0)
    X[rng.random(len(X)) < np.where(y == 0, 0.4, 0.1), 0] = np.nan
    X[X[:, 4] > 300, 4] = np.nan
    X[rng.random(len(X)) < 0.1, 9] = np.nan
    return X, y


def _categories():
    """Real features, one with holes, behind two of codes in no order."""
    X, y = load_breast_cancer(return_X_y=True)
    rng = np.random.default_rng(0)
    ranks = np.argsort(np.argsort(X[:, [0, 21]], axis=0), axis=0) / len(X)
    codes = [rng.permutation(n)[(r * n).astype(int)] for n, r in zip((7, 40), ranks.T, strict=True)]
    X = np.column_stack([*codes, X[:, [4, 8, 9]]])
    X[rng.random(len(X)) < 0.2, 3] = np.nan
    X[rng.random(len(X)) < 0.1, 1] = np.nan
    return X, y


def _ragged():
    """Sequences of two channels in real units, of which some end early and one never begins."""
    X, y = load_digits(return_X_y=True)
    X = X * 0.37 - 1.0
    for length in (0, 5, 20):
        X[length :: 40 + length, 2 * length :] = np.nan
    return X, y < 5


def _ragged_counts():
    """The same of whole numbers."""
    X, y = load_digits(return_X_y=True)
    X[::5, 40:] = np.nan
    return X, y


def _codes():
    """Codes in no order, from negative ones to ones far apart, and what they say."""
    rng = np.random.default_rng(0)
    codes = [np.array([-3, 0, 1, 7]), np.array([2, 90, 91]), np.arange(6)]
    ranks = [rng.integers(len(c), size=400) for c in codes]
    y = (ranks[0] + 2 * ranks[1] + (ranks[2] > 2) + rng.integers(2, size=400)) > 4
    return np.column_stack([c[r] for c, r in zip(codes, ranks, strict=True)]), y


def _linnerud_classes():
    X, targets = load_linnerud(return_X_y=True)
    return X, targets[:, 0] > 175


def _two_targets():
    X, y = load_diabetes(return_X_y=True)
    return X, np.c_[y, X[:, 2] * 100 + y / 10]


DATA = {
    "digits": lambda: load_digits(return_X_y=True),  # whole numbers in float columns
    "even_digits": _binary_digits,  # bytes
    "ragged": _ragged,
    "ragged_counts": _ragged_counts,
    "iris": lambda: _names(load_iris()),
    "cancer": lambda: load_breast_cancer(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "mixed": _mixed,
    "holes": _holes,
    "categories": _categories,
    "diabetes": lambda: load_diabetes(return_X_y=True),
    "codes": _codes,
    "linnerud_classes": _linnerud_classes,
    "two_targets": _two_targets,
    "linnerud": lambda: load_linnerud(return_X_y=True),  # 20 rows of whole numbers, three targets
}


# Models -------------------------------------------------------------------------------------------

SEED = {"random_state": 0}
FOREST = {"n_estimators": 5, "max_depth": 5, **SEED}
PROTONN = {"max_iter": 20, **SEED}
BONSAI = {"max_iter": 20, **SEED}
FASTGRNN = {"max_iter": 20, **SEED}
SVM = {"max_iter": 20, **SEED}


def _logistic(**parameters):
    return LogisticRegression(**{"max_iter": 300, "tol": 1e-3, **parameters})


def _scaled(model):
    return make_pipeline(StandardScaler(), model)


def _pipelines() -> Iterator[tuple[str, BaseEstimator, str]]:
    inner = make_pipeline(MinMaxScaler(), PCA(8, **SEED))
    nested = make_pipeline(SelectKBest(k=20), make_pipeline(inner, StandardScaler()), _logistic())
    absent = [("nothing", None), ("same", "passthrough"), ("scaler", StandardScaler())]
    yield "pipeline_of_pipelines", nested, "cancer"
    yield "pipeline_with_gaps", Pipeline([*absent, ("model", _logistic())]), "wine"


def _scalers() -> Iterator[tuple[str, BaseEstimator, str]]:
    scalers = {
        "standard": StandardScaler(),
        "standard_without_mean": StandardScaler(with_mean=False),
        "standard_without_std": StandardScaler(with_std=False),
        "minmax": MinMaxScaler((-1, 1)),
        "minmax_clip": MinMaxScaler(clip=True),
        "maxabs": MaxAbsScaler(),
        "robust": RobustScaler(),
        "robust_plain": RobustScaler(with_centering=False, with_scaling=False),
    }
    for name, scaler in scalers.items():
        yield f"{name}_ridge", make_pipeline(scaler, RidgeClassifier()), "wine"
        tree = DecisionTreeClassifier(max_depth=6, **SEED)
        yield f"{name}_tree", make_pipeline(scaler, tree), "mixed"
    yield "pca_logistic", make_pipeline(PCA(12, **SEED), _logistic()), "digits"
    whitened = PCA(6, whiten=True, **SEED)
    yield "whitened_logistic", make_pipeline(StandardScaler(), whitened, _logistic()), "wine"


def _selectors() -> Iterator[tuple[str, BaseEstimator, str]]:
    yield "variance_logistic", _scaled(make_pipeline(VarianceThreshold(0.5), _logistic())), "digits"
    svc = LinearSVC(**SEED)
    yield "kbest_svc", make_pipeline(SelectKBest(k=10), StandardScaler(), svc), "cancer"
    yield "percentile_ridge", make_pipeline(SelectPercentile(percentile=30), Ridge()), "diabetes"
    lasso = SelectFromModel(Lasso(alpha=0.5))
    yield "from_model_forest", make_pipeline(lasso, RandomForestRegressor(**FOREST)), "diabetes"


def _linear() -> Iterator[tuple[str, BaseEstimator, str]]:
    yield "logistic_digits", _scaled(_logistic(C=0.1)), "digits"
    yield "logistic_binary", _scaled(_logistic()), "cancer"
    yield "logistic_bytes", _logistic(C=0.01), "even_digits"
    yield "logistic_mixed", _scaled(_logistic()), "mixed"
    yield "logistic_iris", _logistic(), "iris"
    yield "svc", _scaled(LinearSVC(**SEED)), "iris"
    yield "svc_binary", _scaled(LinearSVC(**SEED)), "mixed"
    yield "sgd", _scaled(SGDClassifier(loss="log_loss", **SEED)), "wine"
    yield "sgd_hinge", _scaled(SGDClassifier(**SEED)), "digits"
    yield "ridge_classifier", RidgeClassifier(), "digits"
    yield "ridge_classifier_binary", _scaled(RidgeClassifier()), "cancer"
    yield "linear_regression", LinearRegression(), "diabetes"
    yield "linear_several", LinearRegression(), "two_targets"
    yield "ridge_few_rows", Ridge(), "linnerud"
    yield "lasso", Lasso(alpha=0.1), "diabetes"
    yield "elastic_net", _scaled(ElasticNet(alpha=0.1)), "two_targets"


def _discriminants() -> Iterator[tuple[str, BaseEstimator, str]]:
    yield "lda", LinearDiscriminantAnalysis(), "digits"
    yield "lda_binary", LinearDiscriminantAnalysis(), "mixed"
    projected = make_pipeline(LinearDiscriminantAnalysis(n_components=2), _logistic())
    yield "lda_projection", projected, "iris"
    quadratic = QuadraticDiscriminantAnalysis(reg_param=0.1)
    yield "qda", make_pipeline(PCA(6, **SEED), quadratic), "digits"
    yield "qda_binary", _scaled(quadratic), "cancer"
    yield "perceptron", _scaled(Perceptron(**SEED)), "digits"
    yield "linear_svr", _scaled(LinearSVR(C=10, max_iter=50_000, **SEED)), "diabetes"
    yield "huber", HuberRegressor(max_iter=500), "diabetes"
    yield "ridge_classifier_cv", _scaled(RidgeClassifierCV()), "wine"
    regressors = (
        ARDRegression(), BayesianRidge(), ElasticNetCV(), Lars(), LarsCV(), LassoCV(),
        LassoLarsCV(), LassoLarsIC(), OrthogonalMatchingPursuit(), OrthogonalMatchingPursuitCV(),
        QuantileRegressor(alpha=0.0), RidgeCV(), SGDRegressor(**SEED), TheilSenRegressor(**SEED),
    )  # fmt: skip
    for regressor in regressors:
        yield type(regressor).__name__, _scaled(regressor), "diabetes"


def _kernel_machines() -> Iterator[tuple[str, BaseEstimator, str]]:
    few = make_pipeline(PCA(6, **SEED), StandardScaler())
    yield "svc_rbf", make_pipeline(few, SVC()), "wine"
    yield "svc_rbf_raw", SVC(), "iris"
    yield "svc_rbf_binary", _scaled(SVC(gamma=0.01)), "cancer"
    yield "svc_linear", SVC(kernel="linear"), "digits"
    yield "svc_linear_few", SVC(kernel="linear"), "iris"
    yield "svc_poly", make_pipeline(MinMaxScaler(), SVC(kernel="poly", degree=2)), "wine"
    yield "svc_sigmoid", _scaled(SVC(kernel="sigmoid", gamma=0.05)), "iris"
    yield "svc_ties", _scaled(SVC(break_ties=True)), "wine"
    yield "nu_svc", _scaled(NuSVC(nu=0.2)), "mixed"
    yield "svr", _scaled(SVR(C=5.0, gamma=0.02)), "diabetes"
    yield "nu_svr", _scaled(NuSVR(C=5.0, kernel="linear")), "diabetes"
    yield "one_class", _scaled(OneClassSVM(nu=0.1, gamma=0.05)), "wine"


def _bayes() -> Iterator[tuple[str, BaseEstimator, str]]:
    yield "gaussian_nb", GaussianNB(), "digits"
    yield "gaussian_nb_binary", _scaled(GaussianNB()), "cancer"
    yield "bernoulli_nb", BernoulliNB(binarize=7.5), "digits"
    yield "bernoulli_nb_reals", make_pipeline(MaxAbsScaler(), BernoulliNB(binarize=0.4)), "cancer"
    yield "multinomial_nb", MultinomialNB(), "digits"
    yield "multinomial_nb_binary", MultinomialNB(), "even_digits"
    yield "complement_nb", make_pipeline(MinMaxScaler(), ComplementNB()), "wine"


def _neighbours() -> Iterator[tuple[str, BaseEstimator, str]]:
    yield "neighbours", _scaled(KNeighborsClassifier(3)), "iris"
    yield "neighbours_whole", KNeighborsClassifier(), "linnerud_classes"
    yield "neighbours_regressor", _scaled(KNeighborsRegressor(30)), "diabetes"
    yield "centroids", NearestCentroid(), "iris"
    yield "centroids_priors", _scaled(NearestCentroid(priors="empirical")), "cancer"
    yield "centroids_binary", NearestCentroid(), "mixed"


def _clusters() -> Iterator[tuple[str, BaseEstimator, str]]:
    few = make_pipeline(StandardScaler(), PCA(3, **SEED))
    yield "kmeans", KMeans(7, n_init=1, **SEED), "digits"
    yield "kmeans_batches", _scaled(MiniBatchKMeans(3, n_init=1, **SEED)), "wine"
    for kind in ("full", "tied", "diag", "spherical"):
        mixture = GaussianMixture(3, covariance_type=kind, **SEED)
        yield f"mixture_{kind}", make_pipeline(few, mixture), "wine"
    bayesian = BayesianGaussianMixture(n_components=3, max_iter=500, **SEED)
    yield "mixture_bayesian", make_pipeline(few, bayesian), "iris"


def _networks() -> Iterator[tuple[str, BaseEstimator, str]]:
    brief = {"max_iter": 300, "tol": 0.01, **SEED}
    yield "mlp", _scaled(MLPClassifier(16, **brief)), "digits"
    yield "mlp_binary", _scaled(MLPClassifier((6, 4), **brief)), "cancer"
    yield "mlp_tanh", _scaled(MLPClassifier(5, activation="tanh", **brief)), "iris"
    yield "mlp_logistic", _scaled(MLPClassifier(5, activation="logistic", **brief)), "wine"
    yield "mlp_identity", _scaled(MLPClassifier(3, activation="identity", **brief)), "wine"
    brief |= {"tol": 30.0, "learning_rate_init": 0.05}
    regressor = MLPRegressor(hidden_layer_sizes=8, **brief)
    yield "mlp_regressor", _scaled(regressor), "diabetes"
    yield "mlp_several", _scaled(regressor), "two_targets"


def _composed() -> Iterator[tuple[str, BaseEstimator, str]]:
    svm, tree = LinearSVC(**SEED), DecisionTreeClassifier(max_depth=4, **SEED)
    yield "calibrated", _scaled(CalibratedClassifierCV(svm, cv=2)), "wine"
    yield "calibrated_binary", _scaled(CalibratedClassifierCV(GaussianNB(), cv=2)), "cancer"
    once = CalibratedClassifierCV(SVC(), cv=3, ensemble=False)
    yield "calibrated_once", _scaled(once), "iris"
    isotonic = CalibratedClassifierCV(_logistic(), cv=2, method="isotonic")
    yield "calibrated_isotonic", _scaled(isotonic), "wine"
    yield "one_vs_rest", _scaled(OneVsRestClassifier(svm)), "digits"
    forest = RandomForestClassifier(**FOREST)
    yield "one_vs_rest_forests", OneVsRestClassifier(forest), "wine"
    yield "one_vs_rest_binary", OneVsRestClassifier(tree), "mixed"
    yield "one_vs_one", _scaled(OneVsOneClassifier(_logistic())), "wine"
    yield "one_vs_one_trees", OneVsOneClassifier(tree), "iris"
    members = [("a", _logistic()), ("b", GaussianNB()), ("c", tree)]
    yield "voting_hard", _scaled(VotingClassifier(members, weights=[1, 2, 1.5])), "wine"
    yield "voting_soft", _scaled(VotingClassifier(members, voting="soft")), "wine"
    pair = [("a", _logistic()), ("b", svm)]
    yield "voting_binary", _scaled(VotingClassifier(pair)), "cancer"
    regressors = [("a", Ridge()), ("b", RandomForestRegressor(**FOREST))]
    yield "voting_regressor", VotingRegressor(regressors), "diabetes"
    yield "multi_output", MultiOutputRegressor(Ridge()), "two_targets"
    trees = MultiOutputRegressor(DecisionTreeRegressor(max_depth=4, **SEED))
    yield "multi_output_trees", trees, "linnerud"


def _columns() -> Iterator[tuple[str, BaseEstimator, str]]:
    parts = [("a", StandardScaler(), [0, 3]), ("b", PCA(2, **SEED), [1, 2, 4])]
    columns = ColumnTransformer([*parts, ("c", "drop", [5])], remainder="passthrough")
    yield "columns_logistic", make_pipeline(columns, StandardScaler(), _logistic()), "wine"
    yield "columns_forest", make_pipeline(columns, RandomForestClassifier(**FOREST)), "mixed"
    union = FeatureUnion(
        [("a", StandardScaler()), ("b", PCA(3, **SEED))], transformer_weights={"b": 2}
    )
    yield "union", make_pipeline(union, _logistic()), "digits"
    yield "polynomial", make_pipeline(PolynomialFeatures(2), Ridge(0.01)), "diabetes"
    crossed = PolynomialFeatures(2, interaction_only=True, include_bias=False)
    yield "interactions", _scaled(make_pipeline(crossed, _logistic())), "iris"
    bins = {"n_bins": 4, "quantile_method": "averaged_inverted_cdf"}
    one_hot = KBinsDiscretizer(encode="onehot-dense", **bins)
    yield "bins", make_pipeline(one_hot, _logistic()), "cancer"
    ordinal = KBinsDiscretizer(encode="ordinal", **bins)
    yield (
        "bins_ordinal",
        make_pipeline(ordinal, DecisionTreeClassifier(max_depth=4, **SEED)),
        "wine",
    )
    yield "passed_on", make_pipeline(FunctionTransformer(), Ridge()), "diabetes"
    yield "binarizer", make_pipeline(Binarizer(threshold=8), _logistic(C=0.1)), "digits"
    yield "svd", make_pipeline(TruncatedSVD(6, **SEED), StandardScaler(), _logistic()), "digits"
    unknown = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
    yield "one_hot", make_pipeline(OneHotEncoder(handle_unknown="ignore"), _logistic()), "codes"
    yield "one_hot_drop", make_pipeline(OneHotEncoder(drop="first"), LinearSVC(**SEED)), "codes"
    yield "ordinal", make_pipeline(OrdinalEncoder(), DecisionTreeClassifier(**SEED)), "codes"
    yield "ordinal_unknown", make_pipeline(OrdinalEncoder(**unknown), _logistic()), "codes"
    yield "imputed", make_pipeline(SimpleImputer(), StandardScaler(), _logistic()), "holes"
    scaled = make_pipeline(StandardScaler(), SimpleImputer(strategy="median"))
    yield "imputed_behind_scaler", make_pipeline(scaled, _logistic()), "categories"
    absent = SimpleImputer(missing_values=2, strategy="most_frequent")
    yield "imputed_twos", make_pipeline(absent, _logistic(C=0.01)), "digits"


def _trees() -> Iterator[tuple[str, BaseEstimator, str]]:
    yield "tree", DecisionTreeClassifier(**SEED), "digits"
    yield "tree_bytes", DecisionTreeClassifier(max_depth=4, **SEED), "even_digits"
    yield "tree_names", DecisionTreeClassifier(max_depth=4, **SEED), "iris"
    yield "extra_tree", ExtraTreeClassifier(max_depth=6, **SEED), "wine"
    yield "forest", RandomForestClassifier(**FOREST), "digits"
    yield "forest_reals", RandomForestClassifier(**FOREST), "cancer"
    yield "forest_mixed", RandomForestClassifier(**FOREST), "mixed"
    yield "forest_balanced", RandomForestClassifier(class_weight="balanced", **FOREST), "wine"
    yield "extra_trees", _scaled(ExtraTreesClassifier(**FOREST)), "digits"
    yield "pca_forest", make_pipeline(PCA(8, **SEED), RandomForestClassifier(**FOREST)), "digits"
    yield "tree_regressor", DecisionTreeRegressor(max_depth=5, **SEED), "diabetes"
    yield "tree_several", DecisionTreeRegressor(max_depth=4, **SEED), "linnerud"
    yield "extra_tree_regressor", ExtraTreeRegressor(max_depth=5, **SEED), "diabetes"
    yield "forest_regressor", RandomForestRegressor(**FOREST), "diabetes"
    yield "extra_trees_regressor", _scaled(ExtraTreesRegressor(**FOREST)), "diabetes"
    yield "forest_several", RandomForestRegressor(**FOREST), "two_targets"


def _ensembles() -> Iterator[tuple[str, BaseEstimator, str]]:
    few, part = {"n_estimators": 5, **SEED}, {"max_features": 0.5, "max_samples": 0.3}
    boosted = {"n_estimators": 4, **SEED}
    histograms = {"max_iter": 4, "max_leaf_nodes": 6, "early_stopping": False, **SEED}
    shallow = DecisionTreeClassifier(max_depth=4, **SEED)
    yield "bagging", BaggingClassifier(shallow, **part, **few), "digits"
    yield "bagging_rare", BaggingClassifier(shallow, max_samples=9, **few), "wine"
    low = DecisionTreeRegressor(max_depth=4, **SEED)
    yield "bagging_regressor", BaggingRegressor(low, max_features=0.5, **few), "diabetes"
    yield "adaboost", AdaBoostClassifier(shallow, **few), "digits"
    yield "adaboost_binary", _scaled(AdaBoostClassifier(n_estimators=9, **SEED)), "cancer"
    yield "boosting", GradientBoostingClassifier(**boosted), "digits"
    yield "boosting_names", GradientBoostingClassifier(init="zero", **boosted), "iris"
    yield "boosting_binary", GradientBoostingClassifier(**boosted), "mixed"
    exponential = GradientBoostingClassifier(loss="exponential", **boosted)
    yield "boosting_exponential", _scaled(exponential), "even_digits"
    yield "boosting_regressor", GradientBoostingRegressor(**boosted), "diabetes"
    yield "histograms", HistGradientBoostingClassifier(**histograms), "digits"
    yield "histograms_binary", HistGradientBoostingClassifier(**histograms), "cancer"
    yield "histograms_regressor", HistGradientBoostingRegressor(**histograms), "diabetes"
    yield "isolation", IsolationForest(n_estimators=9, contamination=0.1, **SEED), "digits"
    yield "isolation_reals", IsolationForest(max_features=0.5, **few), "cancer"


def _missing() -> Iterator[tuple[str, BaseEstimator, str]]:
    histograms = {"max_iter": 4, "max_leaf_nodes": 6, "early_stopping": False, **SEED}
    yield "missing_tree", DecisionTreeClassifier(max_depth=5, **SEED), "holes"
    yield "missing_forest", RandomForestClassifier(**FOREST), "holes"
    yield "missing_scaled", _scaled(ExtraTreesClassifier(**FOREST)), "holes"
    yield "missing_regressor", RandomForestRegressor(**FOREST), "holes"
    yield "missing_histograms", HistGradientBoostingClassifier(**histograms), "holes"
    categories = HistGradientBoostingClassifier(categorical_features=[0, 1], **histograms)
    yield "categories", categories, "categories"
    categories = HistGradientBoostingRegressor(categorical_features=[7, 3], **histograms)
    yield "categories_whole", categories, "holes"


MODELS = Path(__file__).parent / "models"  # saved by XGBoost and LightGBM


def _imported() -> Iterator[tuple[str, BaseEstimator, str]]:
    for file in sorted(MODELS.glob("*_*.*")):
        library, name = file.stem.split("_")
        yield f"{library}_file_{name}", tinyml.read_forest(file), name


def _xgboost() -> Iterator[tuple[str, BaseEstimator, str]]:
    if find_spec("xgboost") is None:
        return
    from xgboost import XGBClassifier, XGBRegressor

    few = {"n_estimators": 3, "max_depth": 3, "n_jobs": 1, **SEED}
    yield "xgboost", XGBClassifier(**few), "digits"
    yield "xgboost_binary", XGBClassifier(**few), "mixed"
    yield "xgboost_scaled", _scaled(XGBClassifier(objective="binary:hinge", **few)), "cancer"
    yield "xgboost_missing", XGBClassifier(**few), "holes"
    kinds = {"feature_types": list("ccqqq"), "enable_categorical": True}
    yield "xgboost_categories", XGBClassifier(max_cat_to_onehot=4, **kinds, **few), "categories"
    yield "xgboost_dart", XGBClassifier(booster="dart", rate_drop=0.5, **few), "even_digits"
    forest = {"num_parallel_tree": 3, "subsample": 0.8, "colsample_bynode": 0.8}
    grown = XGBClassifier(learning_rate=1.0, **forest, **{**few, "n_estimators": 1})
    yield "xgboost_forest", grown, "digits"
    yield "xgboost_regressor", XGBRegressor(**few), "diabetes"
    yield "xgboost_several", XGBRegressor(objective="reg:absoluteerror", **few), "two_targets"


def _lightgbm() -> Iterator[tuple[str, BaseEstimator, str]]:
    if find_spec("lightgbm") is None:
        return
    from lightgbm import LGBMClassifier, LGBMRegressor

    few = {"n_estimators": 3, "num_leaves": 6, "n_jobs": 1, "verbose": -1, **SEED}
    bags = {"subsample": 0.5, "subsample_freq": 1}
    yield "lightgbm", LGBMClassifier(**few), "digits"
    yield "lightgbm_missing", LGBMClassifier(**few), "holes"
    yield "lightgbm_names", LGBMClassifier(objective="multiclassova", **few), "iris"
    yield "lightgbm_binary", LGBMClassifier(sigmoid=2.0, **few), "mixed"
    yield "lightgbm_dart", LGBMClassifier(boosting_type="dart", **few), "even_digits"
    yield "lightgbm_forest", _scaled(LGBMClassifier(boosting_type="rf", **bags, **few)), "cancer"
    yield "lightgbm_regressor", LGBMRegressor(objective="huber", **few), "diabetes"


def _protonn() -> Iterator[tuple[str, BaseEstimator, str]]:
    sparse = {"projection_density": 0.3, "label_density": 0.5}
    yield "protonn", ProtoNNClassifier(8, 20, **PROTONN), "digits"
    yield "protonn_scaled", _scaled(ProtoNNClassifier(6, 12, **PROTONN)), "wine"
    yield "protonn_binary", ProtoNNClassifier(5, 10, **PROTONN), "cancer"
    yield "protonn_sparse", ProtoNNClassifier(8, 20, **sparse, **PROTONN), "digits"
    yield "protonn_squared", ProtoNNClassifier(4, 9, loss="squared", **PROTONN), "iris"
    yield "protonn_regressor", ProtoNNRegressor(4, 12, **PROTONN), "diabetes"
    yield "protonn_regressor_scaled", _scaled(ProtoNNRegressor(3, 10, **PROTONN)), "diabetes"


def _bonsai() -> Iterator[tuple[str, BaseEstimator, str]]:
    sparse = {"projection_density": 0.3, "tree_density": 0.4}
    yield "bonsai", BonsaiClassifier(8, 3, **BONSAI), "digits"
    yield "bonsai_scaled", _scaled(BonsaiClassifier(5, 2, **BONSAI)), "wine"
    yield "bonsai_binary", BonsaiClassifier(5, 2, **BONSAI), "cancer"
    yield "bonsai_sparse", BonsaiClassifier(10, 3, **sparse, **BONSAI), "digits"
    yield "bonsai_hinge", BonsaiClassifier(4, 1, loss="hinge", **BONSAI), "iris"
    yield "bonsai_without_tree", BonsaiClassifier(6, 0, **BONSAI), "even_digits"
    yield "bonsai_regressor", BonsaiRegressor(4, 2, **BONSAI), "diabetes"
    yield "bonsai_regressor_scaled", _scaled(BonsaiRegressor(3, 0, **BONSAI)), "diabetes"


def _fastgrnn() -> Iterator[tuple[str, BaseEstimator, str]]:
    thin = {"w_rank": 3, "u_rank": 5, "w_density": 0.8, "u_density": 0.4}
    rows = {"n_channels": 8, **FASTGRNN}
    pairs = {"n_channels": 2, **FASTGRNN}
    yield "fastgrnn", FastGRNNClassifier(12, **rows), "digits"
    yield "fastgrnn_thin", FastGRNNClassifier(14, **thin, **rows), "digits"
    yield "fastgrnn_bytes", FastGRNNClassifier(9, loss="hinge", **rows), "even_digits"
    yield "fastgrnn_ragged", FastGRNNClassifier(8, **pairs), "ragged"
    yield "fastgrnn_counts", FastGRNNClassifier(10, **rows), "ragged_counts"
    scaled = make_pipeline(SequenceScaler(2), FastGRNNClassifier(6, **pairs))
    yield "fastgrnn_scaled", scaled, "ragged"
    yield "fastgrnn_steps_of_one", FastGRNNClassifier(5, **FASTGRNN), "iris"
    yield "fastrnn", FastGRNNClassifier(10, cell="fastrnn", **rows), "digits"
    yield "gru", FastGRNNClassifier(8, cell="gru", **rows), "digits"
    yield "gru_thin", FastGRNNClassifier(9, cell="gru", **thin, **rows), "ragged_counts"
    yield "fastgrnn_regressor", FastGRNNRegressor(6, n_channels=5, **FASTGRNN), "diabetes"
    yield "gru_regressor", FastGRNNRegressor(4, cell="gru", **FASTGRNN), "diabetes"


def _compact_svm() -> Iterator[tuple[str, BaseEstimator, str]]:
    """Every kernel behind a map and on the features, of which some have ranges of their own."""
    features, laplacian = {"n_components": 0, **SVM}, {"kernel": "laplacian", **SVM}
    yield "compact_svc", CompactSVC(20, 8, **SVM), "digits"
    yield "compact_svc_scaled", _scaled(CompactSVC(9, 4, probability=True, **SVM)), "wine"
    yield "compact_svc_features", CompactSVC(12, **features), "digits"
    yield "compact_svc_mixed", CompactSVC(9, loss="squared_hinge", **features), "mixed"
    yield "compact_svc_names", CompactSVC(6, **features), "iris"
    yield "compact_svc_laplacian", CompactSVC(12, **laplacian), "digits"
    yield "compact_svc_laplacian_bytes", CompactSVC(7, **laplacian), "even_digits"
    yield "compact_svc_laplacian_mixed", CompactSVC(8, probability=True, **laplacian), "mixed"
    yield "compact_svc_laplacian_reals", CompactSVC(8, **laplacian), "cancer"
    yield "compact_svc_laplacian_scaled", _scaled(CompactSVC(8, **laplacian)), "wine"
    yield "compact_svc_laplacian_map", CompactSVC(9, 3, **laplacian), "wine"
    yield "compact_svc_poly", CompactSVC(12, 6, kernel="poly", **SVM), "digits"
    yield "compact_svc_cubic", CompactSVC(5, kernel="poly", degree=3, **features), "mixed"
    yield "compact_svc_linear", CompactSVC(kernel="linear", **SVM), "digits"
    yield "compact_svc_linear_mixed", CompactSVC(kernel="linear", **SVM), "mixed"
    yield "compact_svr", CompactSVR(12, 4, **SVM), "diabetes"
    yield "compact_svr_features", CompactSVR(10, **features), "diabetes"
    yield "compact_svr_laplacian", CompactSVR(10, **laplacian), "diabetes"
    yield "compact_svr_quartic", CompactSVR(6, 3, kernel="poly", degree=4, **SVM), "diabetes"
    yield "compact_svr_linear", _scaled(CompactSVR(kernel="linear", **SVM)), "diabetes"


def _compact_forests() -> Iterator[tuple[str, BaseEstimator, str]]:
    small = {"max_bytes": 800, **SEED}
    yield "pruned_forest", PrunedForestClassifier(**small), "digits"
    yield "pruned_forest_mixed", PrunedForestClassifier(refine=False, **small), "mixed"
    budget = PrunedForestClassifier(method="budget", max_nodes=60, **SEED)
    yield "pruned_forest_budget", budget, "wine"
    unrefined = {"refine": False, **small}
    yield "pruned_forest_depth", PrunedForestClassifier(method="depth", **unrefined), "cancer"
    yield "pruned_forest_levels", PrunedForestClassifier(method="levels", **unrefined), "digits"
    yield "pruned_forest_regressor", PrunedForestRegressor(**small), "diabetes"
    levels = PrunedForestRegressor(method="levels", max_nodes=80, **SEED)
    yield "pruned_forest_levels_regressor", levels, "diabetes"
    yield "l1_forest", L1ForestClassifier(**small), "digits"
    yield "l1_forest_mixed", L1ForestClassifier(**unrefined), "mixed"
    yield "l1_forest_regressor", L1ForestRegressor(**small), "diabetes"
    yield "compact_boosting", CompactBoostingClassifier(**small), "digits"
    yield "compact_boosting_binary", CompactBoostingClassifier(**small), "cancer"
    yield "compact_boosting_scaled", _scaled(CompactBoostingClassifier(**small)), "iris"
    yield "compact_boosting_regressor", CompactBoostingRegressor(**small), "diabetes"
    refined = CompactBoostingRegressor(refine=True, max_iter=9, max_leaf_nodes=4, **SEED)
    yield "compact_boosting_refined", refined, "diabetes"


_FAMILIES = (
    _pipelines, _scalers, _selectors, _linear, _discriminants, _kernel_machines, _bayes,
    _neighbours, _clusters, _networks, _composed, _columns, _trees, _ensembles, _missing,
    _imported, _xgboost, _lightgbm, _protonn, _bonsai, _fastgrnn, _compact_svm,
    _compact_forests,
)  # fmt: skip
INSTANCES = {row[0]: Instance(*row) for family in _FAMILIES for row in family()}
CLASSIFIERS = [name for name, instance in INSTANCES.items() if instance.is_classifier]


@cache
def fitted(name):
    """Return the fitted model of an instance."""
    instance = INSTANCES[name]
    return clone(instance.estimator).fit(*data(instance.data))


@cache
def compiled(name, bits="auto"):
    """Return the program of an instance."""
    return tinyml.compile(fitted(name), data(INSTANCES[name].data)[0], bits=bits)


def steps(model):
    """Yield a model and everything inside it that is lowered."""
    yield model
    parts = {Pipeline: "steps", FeatureUnion: "transformer_list", ColumnTransformer: "transformers"}
    parts |= {VotingClassifier: "estimators", VotingRegressor: "estimators"}
    for _, step, *_columns in getattr(model, parts.get(type(model), ""), ()):
        if not isinstance(step, str) and step is not None:
            yield from steps(step)
