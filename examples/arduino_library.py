"""Write a fitted pipeline as an Arduino library: copy the folder into Arduino/libraries.

The library's own example first runs a self-test on the board, then reads features from Serial.
"""

import sys

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tinyml
from tinyml.datasets import load
from tinyml.estimators import ProtoNNClassifier

folder = sys.argv[1] if len(sys.argv) > 1 else "firmware"
X_train, y_train, X_test, y_test = load("digits")
model = make_pipeline(StandardScaler(), ProtoNNClassifier(max_bytes=1500, random_state=0))
program = tinyml.compile(model.fit(X_train, y_train), X_train, board="uno")
print(
    f"{model.score(X_test, y_test):.3f} in float, {program.score(X_test, y_test):.3f} on the chip"
)

library = program.export(folder, "digits", kind="arduino")
for path in sorted(library.rglob("*.*")):
    print(path.relative_to(library), f"{path.stat().st_size} characters")
