"""Reads a report of Nsight Systems, exported by `nsys export --type=sqlite`, whose tables are documented and stable.

Used: CUPTI_ACTIVITY_KIND_KERNEL (start, end, deviceId, demangledName, times in ns), NVTX_EVENTS (start, end, text or
textId), StringIds (id, value). Source: "SQLite Schema Reference" of the Nsight Systems user guide.
"""

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from llmval_runners.process.errors import Refused
from llmval_runners.tracing.timeline import KERNELS, CallTotal, Device, Timeline, device_time

_KERNELS = """SELECT COALESCE(s.value, 'unknown'), COUNT(*), SUM(k.end - k.start) FROM CUPTI_ACTIVITY_KIND_KERNEL AS k
           LEFT JOIN StringIds AS s ON s.id = k.demangledName GROUP BY 1"""
_RANGES = """SELECT COALESCE(n.text, s.value) AS label, COUNT(*), SUM(n.end - n.start) FROM NVTX_EVENTS AS n
             LEFT JOIN StringIds AS s ON s.id = n.textId WHERE n.end IS NOT NULL GROUP BY label"""


def read_nsys(path: Path, range_names: Collection[str]) -> Timeline:
    """The kernels in an exported report. `range_names`: the ranges to count.

    Raises:
        Refused: the file is not such an export.
    """
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            totals, devices, ranges = {}, [], {}
            # A report without kernels has no such table.
            if "CUPTI_ACTIVITY_KIND_KERNEL" in tables:
                totals = {str(name): CallTotal(calls, ns) for name, calls, ns in database.execute(_KERNELS)}
                devices = _devices(database)
            if "NVTX_EVENTS" in tables:
                found = database.execute(_RANGES)
                ranges = {str(name): CallTotal(calls, ns) for name, calls, ns in found if name in range_names}
    except sqlite3.Error as error:
        raise Refused(f"{path} is not an export of nsys ({error}): capture the trace again.") from error
    return Timeline(KERNELS, totals, devices, ranges)


def _devices(database: sqlite3.Connection) -> list[Device]:
    ids = [row[0] for row in database.execute("SELECT DISTINCT deviceId FROM CUPTI_ACTIVITY_KIND_KERNEL ORDER BY 1")]
    by_start = "SELECT start, end FROM CUPTI_ACTIVITY_KIND_KERNEL WHERE deviceId = ? ORDER BY start"
    return [device_time(str(one), database.execute(by_start, (one,))) for one in ids]
