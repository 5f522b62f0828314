"""Write docs/supported_models.md from the registry of lowerings."""

from pathlib import Path

import tinyml.codegen.compile
import tinyml.imported  # noqa: F401  importing both registers every lowering
from tinyml.codegen.lower import OPTIONAL, lower

TARGET = Path(__file__).parent.parent / "docs" / "supported_models.md"
HEAD = """\
# Supported models

What `tinyml.compile` takes, and every subclass of these. Written by
`python scripts/supported_models.py`.

| class | from |
|---|---|
"""


def table() -> str:
    """Return the page."""
    classes = [cls for cls in lower.registry if cls is not object]
    homes = {cls.__name__: _public_module(cls.__module__) for cls in classes} | OPTIONAL
    rows = [f"| `{name}` | `{homes[name]}` |" for name in sorted(homes)]
    return HEAD + "\n".join(rows) + "\n"


def _public_module(module: str) -> str:
    """Drop private parts: sklearn.linear_model._ridge → sklearn.linear_model."""
    return ".".join(part for part in module.split(".") if not part.startswith("_"))


if __name__ == "__main__":
    TARGET.write_text(table(), encoding="utf-8")
