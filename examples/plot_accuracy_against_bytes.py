"""Accuracy against flash: how small may ProtoNN, Bonsai and FastGRNN become?

Each point is a model with another bound on its bytes. Flash is that of the integer program built
for the Uno, code included, and accuracy that of the same program on held-out rows.
"""

import sys

import matplotlib.pyplot as plt

from tinyml.datasets import load
from tinyml.estimators import BonsaiClassifier, FastGRNNClassifier, ProtoNNClassifier
from tinyml.model_selection import FixedPointClassifier

X_train, y_train, X_test, y_test = load("digits")
FAMILIES = {
    "ProtoNN": (ProtoNNClassifier(random_state=0), "#1f5fa8", (400, 600, 1000, 1800)),
    "Bonsai": (BonsaiClassifier(random_state=0), "#c2562d", (300, 600, 1000, 1800)),
    "FastGRNN, row by row": (
        FastGRNNClassifier(n_channels=8, random_state=0),
        "#2e7d5b",
        (400, 600, 1000, 1800),
    ),
}

figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
for family, (estimator, color, sizes) in FAMILIES.items():
    flash, accuracy = [], []
    for max_bytes in sizes:
        model = FixedPointClassifier(estimator.set_params(max_bytes=max_bytes), bits=8, board="uno")
        model.fit(X_train, y_train)
        flash.append(model.report_.flash)
        accuracy.append(100 * model.score(X_test, y_test))
        print(f"{family}: {flash[-1]:5d} B: {accuracy[-1]:.1f} % on the chip")
    axes.plot(flash, accuracy, "o-", color=color, markersize=5, label=family)

axes.set_xscale("log", base=2)
axes.set_xticks([1024, 1536, 2048, 3072, 4096], ["1 KB", "1.5 KB", "2 KB", "3 KB", "4 KB"])
axes.minorticks_off()
axes.set_xlabel("flash on the Arduino Uno, code included")
axes.set_ylabel("held-out accuracy, %")
axes.set_title("8×8 digits as 8-bit programs", loc="left", fontweight="bold")
axes.spines[["top", "right"]].set_visible(False)
axes.grid(axis="y", color="#e5e7eb")
axes.legend(frameon=False, loc="lower right")

path = sys.argv[1] if len(sys.argv) > 1 else "accuracy_against_bytes.png"
figure.savefig(path, dpi=150)
print(f"wrote {path}")
