"""Reads the output of perftest: `ib_write_bw`, `ib_read_lat`, … A table whose header names the units, one row a size.

“MB/sec” is 2^20 bytes there (newer versions call the same column “MiB/sec”), and “Gb/sec” of `--report_gbits` is 10^9
bits.
"""

import re

from llmval_tui.actions.tools.files import read_text_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

PROGRAMS = tuple(f"ib_{verb}_{what}" for verb in ("write", "read", "send", "atomic") for what in ("bw", "lat"))
_COLUMN = re.compile(r"#\w+|[A-Za-z\d][\w .%-]*?\[[^\]]*\]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_RULE = re.compile(r"^-{20,}\s*$")
_FAILED = re.compile(r"Failed status \d+[^\n]*|Completion with error[^\n]*|[Cc]ouldn't [^\n]*|Failed to [^\n]*")
_UNITS = {"MB/sec": "MiB/s", "MiB/sec": "MiB/s", "Gb/sec": "Gb/s", "usec": "us", "Mpps": ""}
_NAMES = {"BW peak": "bw.peak", "BW average": "bw.average", "MsgRate": "message_rate", "99% percentile": "p99",
          "99.9% percentile": "p99.9"}  # fmt: skip


class Perftest(Tool):
    """`ib_write_bw` and its relatives, at either end."""

    name = "perftest"
    versions = "6"

    def read(self, left: LeftFiles) -> ToolResult:
        columns: list[str] = []
        rows: list[dict[str, float]] = []
        ended = False
        for line in read_text_file(left.stdout).splitlines():
            if line.lstrip().startswith("#bytes"):
                columns, rows, ended = [one.strip() for one in _COLUMN.findall(line)], [], False
                continue
            cells = line.split()
            if columns and len(cells) == len(columns) and all(_NUMBER.fullmatch(cell) for cell in cells):
                rows.append(dict(zip(columns, map(float, cells), strict=True)))
            ended |= bool(rows) and _RULE.match(line) is not None
        if not rows or not ended:
            reason = "its output has no whole table of sizes below “#bytes”, so it did not reach its end"
            return unreadable(self, "no result" if not rows else "cut off", reason)
        if failed := _FAILED.search(read_text_file(left.stdout)):
            gate = Gate("result", Outcome.FAIL, failed[0].strip()[:80], "no failed operation")
            return ToolResult([format_gate(self, "its output names no version"), gate], {}, "perftest: it failed")
        speeds = [column for column in columns if column.startswith(("BW average", "t_typical", "t_avg"))]
        if speeds and any(row[column] == 0 for row in rows for column in speeds):
            return unreadable(self, "0 measured", "a bandwidth or latency of 0 was not measured")
        metrics: dict[str, Metric] = {}
        for column in columns[2:]:
            label, _, unit = column.rstrip("]").partition("[")
            name = _NAMES.get(label.strip(), label.strip())
            for row in rows:
                metrics |= _metrics(f"{name}.{row[columns[0]]:.0f}", row[column], unit)
            if len(rows) == 1:
                metrics |= _metrics(name, rows[0][column], unit)
            else:
                reason = f"it measured {len(rows)} sizes: name one, as in {name}.{rows[-1][columns[0]]:.0f}"
                metrics[name] = metrics[f"{name}.printed"] = Metric(None, _UNITS.get(unit, ""), reason)
        gate = Gate("result", Outcome.PASS, f"{len(rows)} sizes" if len(rows) > 1 else "1 size", "a whole table")
        return ToolResult(
            [format_gate(self, "its output names no version"), gate], metrics, f"perftest: {gate.measured}"
        )


def _metrics(name: str, value: float, unit: str) -> dict[str, Metric]:
    """The value in its true unit, and as printed: a bound in MB/s was read off a tool that prints “MB/sec”."""
    if name.startswith("bw.peak") and value == 0:
        return {name: Metric(None, _UNITS.get(unit, ""), "with -D the tool measures no peak")}
    true = Metric(value, _UNITS.get(unit, ""))
    return {name: true, f"{name}.printed": Metric(value, "MB/s") if unit == "MB/sec" else true}
