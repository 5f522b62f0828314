"""Process CPU of 100 epochs on usps10 with one thread, kernels compiled beforehand."""

import time

from threadpoolctl import threadpool_limits

from tinyml.datasets import load
from tinyml.estimators import BonsaiClassifier, FastGRNNClassifier, ProtoNNClassifier

SEED = {"random_state": 0}
MODELS = {
    "ProtoNN, 15 dimensions, 60 prototypes": ProtoNNClassifier(15, 60, **SEED),
    "Bonsai, 28 dimensions, depth 3": BonsaiClassifier(
        28, 3, projection_density=0.2, tree_density=0.3, **SEED
    ),
    "FastGRNN, 16 x 16, 32 states": FastGRNNClassifier(32, n_channels=16, **SEED),
    "GRU, 16 x 16, 32 states": FastGRNNClassifier(32, cell="gru", n_channels=16, **SEED),
}


def main():
    X, y, _, _ = load("usps10")
    print("| model | CPU s |\n|---|---|")
    with threadpool_limits(1):
        for name, model in MODELS.items():
            model.set_params(max_iter=1).fit(X, y)
            start = time.process_time()
            model.set_params(max_iter=100).fit(X, y)
            print(f"| {name} | {time.process_time() - start:.1f} |", flush=True)


if __name__ == "__main__":
    main()
