"""Print the folder numba caches into: one per state of the kernel sources.

numba does not notice that a function called from another file has changed and would go on using
the old machine code, so a changed source gets a folder of its own.
"""

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def cache_dir() -> Path:
    """Return `.numba_cache/<hash of everything in training/ and estimators/>`."""
    digest = hashlib.sha256()
    for folder in ("training", "estimators"):
        for path in sorted((ROOT / "tinyml" / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return ROOT / ".numba_cache" / digest.hexdigest()[:16]


if __name__ == "__main__":
    print(cache_dir())
