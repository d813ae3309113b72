"""What the last comparison with each library found: results/peers.json, which a test reads.

`make test-peers` sets PEERS_RECORD to that file. Without it nothing is written.
"""

import datetime
import json
import os
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent / "results" / "peers.json"


def record(
    name: str, versions: dict[str, Any], cases: int, tolerance: float, errors: dict[str, float]
) -> None:
    """Replace the entry of one comparison; errors are relative to the largest entry."""
    if "PEERS_RECORD" not in os.environ:
        return
    path = Path(os.environ["PEERS_RECORD"])
    entries = json.loads(path.read_text()) if path.exists() else {}
    entries[name] = {
        "date": datetime.date.today().isoformat(), "versions": versions, "cases": cases,
        "tolerance": tolerance, "largest errors": {n: float(f"{e:.2g}") for n, e in errors.items()},
    }  # fmt: skip
    path.write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n")
