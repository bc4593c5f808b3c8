"""How every benchmark says what it found: a table, one last line, and the same as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.engines import Engines

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured thing: its runs and their median."""

    name: str
    unit: str
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)


def conclude(
    name: str, rows: Sequence[Row], ours: Row, limit: Row, engines: Engines | None, **notes: Any
) -> None:
    """Print the table and the closing line, and write bench/results/<name>.json."""
    ratio = ours.median / limit.median if limit.median else 0.0
    width = max(len(row.name) for row in rows)
    print(f"\n{'':{width}}  {'median':>12} {'min':>12} {'max':>12}")
    for row in rows:
        figures = " ".join(f"{figure:>12,.1f}" for figure in (row.median, min(row.runs), max(row.runs)))
        print(f"{row.name:{width}}  {figures}  {row.unit}")
    for key, value in notes.items():
        print(f"{key.replace('_', ' ')}: {value}")
    document = {
        "name": name,
        "figure": round(ours.median, 1),
        "unit": ours.unit,
        "ratio": round(ratio, 3),
        "of": limit.name,
        "rows": [asdict(row) | {"median": row.median} for row in rows],
        "notes": notes,
        "engines": engines.kind if engines else None,
        "machine": f"{platform.machine()}, {len_cores()} cores, Python {platform.python_version()}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2, default=str) + "\n")
    print(f"\n{name} {ours.median:.1f} {ours.unit} ratio {ratio:.2f} of {limit.name}")


def len_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
