"""Accuracy against flash: how small may ProtoNN become, and what do integers cost?

Each point is a model with another bound on its bytes; its flash is that of the program built for
the Uno, code included.
"""

import sys

import matplotlib.pyplot as plt
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tinyml.datasets import load
from tinyml.estimators import ProtoNNClassifier
from tinyml.model_selection import FixedPointClassifier

X_train, y_train, X_test, y_test = load("digits")
flash, in_float, on_chip = [], [], []
for max_bytes in (400, 500, 600, 900, 1300, 1900, 2800):
    pipeline = make_pipeline(
        StandardScaler(), ProtoNNClassifier(max_bytes=max_bytes, random_state=0)
    )
    model = FixedPointClassifier(pipeline, bits=8, board="uno").fit(X_train, y_train)
    flash.append(model.report_.flash)
    in_float.append(100 * model.estimator_.score(X_test, y_test))
    on_chip.append(100 * model.score(X_test, y_test))
    print(f"{flash[-1]:5d} B: {in_float[-1]:.1f} % in float, {on_chip[-1]:.1f} % on the chip")

figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
axes.plot(flash, in_float, "o-", color="#b0b7c3", markersize=9, label="float model")
axes.plot(flash, on_chip, "o-", color="#1f5fa8", markersize=5, label="integer program")
axes.set_xscale("log", base=2)
axes.set_xticks([1024, 1536, 2048, 3072, 4096], ["1 KB", "1.5 KB", "2 KB", "3 KB", "4 KB"])
axes.minorticks_off()
axes.set_xlabel("flash on the Arduino Uno, code included")
axes.set_ylabel("held-out accuracy, %")
axes.set_title("ProtoNN on 8×8 digits", loc="left", fontweight="bold")
axes.spines[["top", "right"]].set_visible(False)
axes.grid(axis="y", color="#e5e7eb")
axes.legend(frameon=False, loc="lower right")

path = sys.argv[1] if len(sys.argv) > 1 else "accuracy_against_bytes.png"
figure.savefig(path, dpi=150)
print(f"wrote {path}")
