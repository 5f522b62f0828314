"""From a fitted model to an integer program and its C: lower, build, run, print."""
