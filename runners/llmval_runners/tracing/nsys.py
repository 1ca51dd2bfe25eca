"""A report of Nsight Systems, by way of `nsys export --type=sqlite`: its tables are documented, and stable over years.

Used: CUPTI_ACTIVITY_KIND_KERNEL (start, end, deviceId, demangledName, times in ns), NVTX_EVENTS (start, end, text or
textId), StringIds (id, value). Source: "SQLite Schema Reference" of the Nsight Systems user guide.
"""

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from llmval_runners.process.errors import Refused
from llmval_runners.tracing.timeline import KERNELS, Device, Timeline, Total, device_of

_WORK = """SELECT COALESCE(s.value, 'unknown'), COUNT(*), SUM(k.end - k.start) FROM CUPTI_ACTIVITY_KIND_KERNEL AS k
           LEFT JOIN StringIds AS s ON s.id = k.demangledName GROUP BY 1"""
_RANGES = """SELECT COALESCE(n.text, s.value) AS label, COUNT(*), SUM(n.end - n.start) FROM NVTX_EVENTS AS n
             LEFT JOIN StringIds AS s ON s.id = n.textId WHERE n.end IS NOT NULL GROUP BY label"""


def read_nsys(path: Path, names: Collection[str]) -> Timeline:
    """The kernels in an exported report; a report without any has the table not at all. `names`: the ranges to count.

    Raises:
        Refused: the file is no such export.
    """
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            work, devices, ranges = {}, [], {}
            if "CUPTI_ACTIVITY_KIND_KERNEL" in tables:
                work = {str(name): Total(calls, ns) for name, calls, ns in database.execute(_WORK)}
                devices = _devices(database)
            if "NVTX_EVENTS" in tables:
                found = database.execute(_RANGES)
                ranges = {str(name): Total(calls, ns) for name, calls, ns in found if name in names}
    except sqlite3.Error as error:
        raise Refused(f"{path} is no export of nsys ({error}): capture the trace again.") from error
    return Timeline(KERNELS, work, devices, ranges)


def _devices(database: sqlite3.Connection) -> list[Device]:
    ids = [row[0] for row in database.execute("SELECT DISTINCT deviceId FROM CUPTI_ACTIVITY_KIND_KERNEL ORDER BY 1")]
    by_start = "SELECT start, end FROM CUPTI_ACTIVITY_KIND_KERNEL WHERE deviceId = ? ORDER BY start"
    return [device_of(str(one), database.execute(by_start, (one,))) for one in ids]
