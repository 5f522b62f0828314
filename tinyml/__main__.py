"""``python -m tinyml``: the command line."""

from tinyml.cli import main

main()
