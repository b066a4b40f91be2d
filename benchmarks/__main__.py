"""`python -m benchmarks [NAME…]`: run all, or those named; results go to benchmarks/results/NAME.csv."""

import sys
from importlib import import_module

NAMES = (
    "start",
    "http",
    "upload",
    "travel",
    "takeout",
    "listing",
    "versions",
    "suggestions",
    "erasure",
    "quickstart",
    "learning.classification",
    "learning.detection",
    "learning.memory",
    "learning.live",
    "proposals",
    "doctor",
    "learning.advanced",
)


def main(names: list[str]) -> int:
    """Run them one after the other; 1 when a promise was not kept."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    kept = [import_module(f"benchmarks.{name}").run() for name in names or NAMES]
    return 0 if all(kept) else 1


sys.exit(main(sys.argv[1:]))
