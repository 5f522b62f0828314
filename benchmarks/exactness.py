"""Python's integers against the C, for everything that can be lowered, at every width.

Each instance of `tests/instances.py` is compiled at 8 bits, 16 bits and "auto". Its C runs under
the undefined-behaviour and address sanitizers of the host on 1000 rows, and on a simulated
ATmega328P on 200: random and extreme values of the input type, calibration rows, and calibration
rows with single features spoilt. Scores and decisions are compared, and `quantize` on floats of
every kind.

    python benchmarks/exactness.py            # a few minutes
    python benchmarks/exactness.py --rows 20  # a taste
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import hard_rows
from instances import INSTANCES, compiled, data

from tinyml.device import quantize_host, run_avr_many, run_host


def features(name):
    return data(INSTANCES[name].data)[0]


def rows_of(programs, n):
    return [hard_rows.raw_rows(p, features(name), n) for name, p in programs.items()]


def wrong_rows(program, raw, scores, decisions):
    """Count the rows where a score or the decision differs."""
    wanted = program.run(raw)
    wrong = np.any(scores != wanted, axis=1)
    if program.has_predict:
        wrong |= decisions != program.decide(wanted)
    return int(wrong.sum())


def host(programs, n):
    raws = rows_of(programs, n)
    results = run_host(list(programs.values()), raws)
    return compare(programs, raws, results)


def chip(programs, n):
    raws = rows_of(programs, n)
    runs = run_avr_many(list(programs.values()), raws, "uno")
    return compare(programs, raws, [(run.scores, run.decisions) for run in runs])


def quantize(programs, n):
    rows = wrong = 0
    for name, program in programs.items():
        X = hard_rows.float_rows(program, features(name), n)
        rows += len(X)
        wrong += int(np.any(quantize_host(program, X) != program.quantize(X), axis=1).sum())
    return rows, wrong


def compare(programs, raws, results):
    triples = zip(programs.values(), raws, results, strict=True)
    return sum(map(len, raws)), sum(wrong_rows(p, raw, *got) for p, raw, got in triples)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200, help="rows per program on the chip")
    n = parser.parse_args().rows
    checks = {
        "scores, decisions: host, sanitised": (host, 5 * n),
        "scores, decisions: ATmega328P": (chip, n),
        "quantize: host, sanitised": (quantize, 5 * n),
    }
    console = Console()
    table = Table("bits", "what is compared with Python", "programs", "rows", "rows that differ")
    total = 0
    for bits in (8, 16, "auto"):
        with console.status(f"Compiling {len(INSTANCES)} models at bits={bits!r}"):
            programs = {name: compiled(name, bits) for name in INSTANCES}
        for what, (check, rows) in checks.items():
            with console.status(f"bits={bits!r}, {what}"):
                n_rows, wrong = check(programs, rows)
            table.add_row(str(bits), what, str(len(programs)), f"{n_rows:,}", str(wrong))
            total += wrong
    console.print(table)
    return total > 0


if __name__ == "__main__":
    sys.exit(main())
