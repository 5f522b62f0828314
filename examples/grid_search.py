"""The best model that fits 4 KB of flash and 512 B of RAM on an Arduino Uno.

Every candidate is scored by the integers of its compiled program and measured on the simulated
chip; what does not fit is left out of the search, which scikit-learn reports as failed fits.
"""

import warnings

from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tinyml.datasets import load
from tinyml.estimators import ProtoNNClassifier
from tinyml.model_selection import FixedPointClassifier

warnings.filterwarnings("ignore", module="sklearn.model_selection")  # what does not fit
X_train, y_train, X_test, y_test = load("digits")
pipeline = make_pipeline(StandardScaler(), ProtoNNClassifier(max_iter=40, random_state=0))
model = FixedPointClassifier(pipeline, board="uno", flash="4KB", ram="512B")
sizes = {"estimator__protonnclassifier__max_bytes": [1000, 2000, 3000, 6000]}
search = GridSearchCV(model, sizes, cv=3).fit(X_train, y_train)

scores = search.cv_results_["mean_test_score"].round(3).tolist()
print(dict(zip(*sizes.values(), scores, strict=True)))
print(f"{search.score(X_test, y_test):.3f} of the held-out rows are right on the chip")
print(search.best_estimator_.report_)
