"""A recurrent model may be asked at any time: accuracy after each time step of three cells.

The digits come row by row, eight pixels at a time. All models take at most 1000 bytes of constants;
what is plotted are the integer programs.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import tinyml
from tinyml.datasets import load
from tinyml.estimators import FastGRNNClassifier

X_train, y_train, X_test, y_test = load("digits")
COLORS = {"fastgrnn": "#2e7d5b", "gru": "#1f5fa8", "fastrnn": "#8a8f98"}

figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
for cell, color in COLORS.items():
    model = FastGRNNClassifier(cell=cell, n_channels=8, max_bytes=1000, random_state=0)
    program = tinyml.compile(model.fit(X_train, y_train), X_train, bits=8)
    scores = program.run_steps(program.quantize(X_test))
    accuracy = 100 * np.mean(program.classes[scores.argmax(axis=2)] == y_test[:, None], axis=0)
    report = tinyml.measure(program, X_test, n_rows=5, flags=("os",))
    label = f"{cell}, {model.U_.shape[1]} states, {report.ms:.1f} ms a step on the Uno"
    axes.plot(np.arange(1, 9), accuracy, "o-", color=color, markersize=5, label=label)
    print(f"{label}: {accuracy[-1]:.1f} % after the last step")

axes.set_xlabel("rows of pixels seen")
axes.set_ylabel("held-out accuracy, %")
axes.set_title("8×8 digits, a row at a time", loc="left", fontweight="bold")
axes.spines[["top", "right"]].set_visible(False)
axes.grid(axis="y", color="#e5e7eb")
axes.legend(frameon=False, loc="lower right")

path = sys.argv[1] if len(sys.argv) > 1 else "accuracy_over_time.png"
figure.savefig(path, dpi=150)
print(f"wrote {path}")
