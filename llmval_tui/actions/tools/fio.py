"""Reads the results of fio 3, from its text or from `--output-format=json`.

Of several jobs in one group the bandwidths and the IOPS add up; percentiles do not, so they are unknown then, as is
every sum over several groups, which ran one after the other.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from llmval_tui.actions.tools.command_line import option
from llmval_tui.actions.tools.files import Unreadable, at, count, items, number, parse_json, read_text_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Promise, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

_JOB = re.compile(r"^(?P<name>.+?): \(groupid=(?P<group>\d+), jobs=\d+\): err=\s*(?P<error>\d+)")
_DONE = re.compile(
    r"^\s+(?P<way>read|write|trim)\s*: IOPS=(?P<iops>[\d.]+)(?P<factor>[kMG]?), BW=(?P<bw>[\d.]+)(?P<unit>\w+/s)"
)
_LATENCY = re.compile(
    r"^\s+(?P<kind>clat|lat) \((?P<unit>[num]sec)\)\s*: .*\bavg=\s*(?P<mean>[\d.]+)(?P<factor>[kMG]?)"
)
_PERCENTILES = re.compile(r"^\s+clat percentiles \((?P<unit>[num]sec)\)")
_PERCENTILE = re.compile(r"(\d+\.\d+)th=\[\s*(\d+)\]")
_BYTES = {"B/s": 1.0, "KiB/s": 2.0**10, "MiB/s": 2.0**20, "GiB/s": 2.0**30, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9}
_SHORT = {"nsec": 1e-3, "usec": 1.0, "msec": 1e3}  # in µs
_FACTOR = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(slots=True)
class _Part:
    """What one job did in one direction."""

    way: str
    group: int
    iops: float
    bytes_per_s: float
    latencies_us: dict[str, float] = field(default_factory=dict)  # "p99", "mean"


class Fio(Tool):
    """`fio JOB`."""

    name = "fio"
    versions = "3"

    def outputs(self) -> tuple[Promise, ...]:
        written = option(self.arguments, "--output")
        return (Promise(written),) if written else ()

    def read(self, left: LeftFiles) -> ToolResult:
        text = read_text_file(left.files[0] if left.files else left.stdout)
        try:
            version, errors, parts = _from_json(text) if re.search(r"^\{", text, re.MULTILINE) else _from_text(text)
        except Unreadable as error:
            return unreadable(self, "not readable", str(error))
        failed = [f"{name}: error {code}" for name, code in errors if code]
        moved = [part for part in parts if part.bytes_per_s > 0]
        outcome = Outcome.FAIL if failed else Outcome.PASS if moved else Outcome.INCONCLUSIVE
        reason = "; ".join(failed) or ("" if moved else "no job read or wrote anything")
        gate = Gate(
            "jobs", outcome, f"{len(errors) - len(failed)} of {len(errors)} without error", "no error", reason[:300]
        )
        return ToolResult([format_gate(self, version), gate], _metrics(moved), f"fio: {gate.measured}")


def _metrics(parts: list[_Part]) -> dict[str, Metric]:
    ways = dict.fromkeys(part.way for part in parts)
    metrics: dict[str, Metric] = {}
    for way in ways:
        mine = [part for part in parts if part.way == way]
        groups = {part.group for part in mine}
        later = f"{len(groups)} groups ran one after the other" if len(groups) > 1 else ""
        found = {
            "bw": Metric(None if later else sum(part.bytes_per_s for part in mine), "B/s", later),
            "iops": Metric(None if later else sum(part.iops for part in mine), "IOPS", later),
        }
        several = later or (f"{len(mine)} jobs have one each: add --group_reporting" if len(mine) > 1 else "")
        for name in dict.fromkeys(name for part in mine for name in part.latencies_us):
            found[f"latency.{name}"] = Metric(None if several else mine[0].latencies_us.get(name), "us", several)
        metrics |= {f"{way}.{name}": value for name, value in found.items()}
        if len(ways) == 1:
            metrics |= found
    return metrics


def _from_json(text: str) -> tuple[str, list[tuple[str, int]], list[_Part]]:
    start, end = re.search(r"^\{", text, re.MULTILINE), text.rfind("}")
    document = parse_json(text[start.start() if start else 0 : end + 1].encode(), "the output")
    jobs = items(at(document, "jobs"))
    if not jobs:
        raise Unreadable("the output has no list “jobs”")
    errors, parts = [], []
    for job in jobs:
        name, code = str(at(job, "jobname") or "a job")[:80], count(at(job, "error"))
        if code is None:
            raise Unreadable(f"{name} has no “error”")
        # With --continue_on_error a job ends with error 0, and counts what it went on after.
        errors.append((name, code or count(at(job, "first_error")) or count(at(job, "total_err")) or 0))
        parts += [_part(job, way) for way in ("read", "write", "trim") if isinstance(at(job, way), dict)]
    return str(at(document, "fio version") or "without a version")[:40], errors, parts


def _part(job: Any, way: str) -> _Part:
    did = at(job, way)
    iops, speed = number(at(did, "iops")), number(at(did, "bw_bytes"))
    if iops is None or speed is None or iops < 0 or speed < 0:
        raise Unreadable(f"“{way}” of a job has no iops or no bw_bytes")
    moved, milliseconds = number(at(did, "io_bytes")), number(at(did, "runtime"))
    if moved and milliseconds and milliseconds > 100 and abs(speed - 1e3 * moved / milliseconds) > 0.05 * speed:
        raise Unreadable(f"“{way}” of a job contradicts itself: its bw_bytes is not io_bytes over runtime")
    part = _Part(way, count(at(job, "groupid")) or 0, iops, speed)
    percentiles = at(did, "clat_ns", "percentile")
    for name, value in percentiles.items() if isinstance(percentiles, dict) else ():
        share, nanoseconds = re.fullmatch(r"\d+\.\d+", name), number(value)
        if share and nanoseconds is not None:
            part.latencies_us[f"p{float(name):g}"] = nanoseconds / 1e3
    if (mean := number(at(did, "lat_ns", "mean"))) is not None:
        part.latencies_us["mean"] = mean / 1e3
    return part


def _from_text(text: str) -> tuple[str, list[tuple[str, int]], list[_Part]]:
    version = re.search(r"^fio-(\S+)", text, re.MULTILINE)
    errors: list[tuple[str, int]] = []
    parts: list[_Part] = []
    group, in_percentiles = 0, 0.0
    for line in text.splitlines():
        if job := _JOB.match(line):
            errors.append((job["name"], int(job["error"])))
            group, in_percentiles = int(job["group"]), 0.0
        elif done := _DONE.match(line):
            unit = _BYTES.get(done["unit"])
            if unit is None or not errors:
                raise Unreadable(f"a line is not one of fio 3: {line.strip()[:80]}")
            iops = float(done["iops"]) * _FACTOR[done["factor"]]
            parts.append(_Part(done["way"], group, iops, float(done["bw"]) * unit))
        elif parts and (head := _PERCENTILES.match(line)):
            in_percentiles = _SHORT[head["unit"]]
        elif parts and in_percentiles and line.lstrip().startswith("|"):
            for share, value in _PERCENTILE.findall(line):
                parts[-1].latencies_us[f"p{float(share):g}"] = float(value) * in_percentiles
        else:
            in_percentiles = 0.0
            if parts and (mean := _LATENCY.match(line)) and mean["kind"] == "lat":
                parts[-1].latencies_us["mean"] = float(mean["mean"]) * _FACTOR[mean["factor"]] * _SHORT[mean["unit"]]
    if not errors or "Run status group" not in text:
        raise Unreadable("the output has no job of fio 3, or no line “Run status group”, so it did not reach its end")
    return f"fio-{version[1]}" if version else "the output names no version", errors, parts
