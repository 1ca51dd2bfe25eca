"""Reads the results of `dcgmi diag`, from its table or from `-j`.

DCGM 3 prints `DCGM GPU Diagnostic` with `gpu_ids` and PASS; DCGM 4 prints `DCGM Diagnostic` with entities and Pass.
Text may stand before the JSON. Only Pass is a pass: a test that was skipped, not run, or ended with a warning proves
nothing, and a status that this reader does not know proves nothing either.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmval_tui.actions.tools.command_line import has
from llmval_tui.actions.tools.files import Unreadable, at, items, parse_json, read_text_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

_PASS, _FAIL = "pass", "fail"
_ROOTS = ("DCGM GPU Diagnostic", "DCGM Diagnostic")
_STATUS = r"(Pass|Fail|Skip|Warn|Not Run|Not run)\b"
_ROW = re.compile(r"^\|\s?(.*?)\s*\|\s(.*?)\s*\|$")
_SECTION = re.compile(r"^[|+]-----\s+(.*?)\s+-+\+")
_ENTITY = re.compile(rf"^([A-Za-z]+\d+): {_STATUS}$")
_MEASURED = re.compile(r"^GPU (\d+)\s+(.+?):\s+([0-9.]+) (\S+)$")


@dataclass(frozen=True, slots=True)
class _Status:
    test: str
    entity: str  # "" for the test as a whole
    status: str  # in lower case
    message: str = ""

    @property
    def place(self) -> str:
        return f"{self.test} ({self.entity})" if self.entity else self.test


@dataclass(frozen=True, slots=True)
class _Diagnosis:
    version: str
    statuses: list[_Status]
    measured: dict[str, Metric]
    error: str = ""  # why the diagnostic did not run


class DcgmDiag(Tool):
    """`dcgmi diag`."""

    name = "dcgmi diag"
    versions = "3 and 4"

    def read(self, left: LeftFiles) -> ToolResult:
        text = read_text_file(left.stdout)
        as_json = has(self.arguments, "-j", "--json") or any(f'"{root}"' in text for root in _ROOTS)
        try:
            found = _from_json(text) if as_json else _from_table(text)
        except Unreadable as problem:
            return unreadable(self, "not readable", str(problem))
        if found.error:
            return unreadable(self, "did not run", found.error[:200])
        known = found.version.partition(".")[0] in ("3", "4")
        reason = "" if known else "this reader does not know this version of DCGM"
        outcome = Outcome.PASS if known else Outcome.INCONCLUSIVE
        gates = [format_gate(self, f"DCGM {found.version}", outcome, reason), _tests(found.statuses)]
        tests = {one.test for one in found.statuses}
        entities = {part for one in found.statuses for part in _entities(one.entity)}
        metrics = {
            f"tests.{name}": Metric(len(_tests_with(found.statuses, name)), "tests")
            for name in ("pass", "fail", "skip", "warn")
        }
        metrics["tests.total"] = Metric(len(tests), "tests")
        if entities:
            metrics["gpus"] = Metric(len(entities), "GPUs")
        passed = len(tests) - len({one.test for one in found.statuses if one.status != _PASS})
        return ToolResult(gates, metrics | found.measured, f"dcgmi diag: {passed} of {len(tests)} tests passed")


def _entities(text: str) -> list[str]:
    """The GPUs in `GPU 0,1`, `GPUs: 0, 1` or `GPU0`; other entities are left out."""
    return re.findall(r"\d+", text) if text.startswith("GPU") else []


def _tests_with(statuses: list[_Status], status: str) -> set[str]:
    """The tests in which a status occurs; for `pass` those in which no other occurs."""
    if status == _PASS:
        return {one.test for one in statuses} - {one.test for one in statuses if one.status != _PASS}
    return {one.test for one in statuses if one.status == status}


def _tests(statuses: list[_Status]) -> Gate:
    name, bound = "diagnostic tests", "every test has the status Pass on every GPU"
    if not statuses:
        return Gate(name, Outcome.INCONCLUSIVE, "no test", bound, "the result names no test")
    counts: dict[str, int] = {}
    for one in statuses:
        counts[one.status] = counts.get(one.status, 0) + 1
    measured = ", ".join(f"{number} {status or 'without a status'}" for status, number in counts.items())

    def named(chosen: list[_Status]) -> str:
        texts = dict.fromkeys(f"{one.place}: {one.message or one.status}"[:120] for one in chosen)
        return "; ".join(list(texts)[:6])

    failed = [one for one in statuses if one.status == _FAIL]
    if failed:
        return Gate(name, Outcome.FAIL, measured, bound, named(failed))
    others = [one for one in statuses if one.status != _PASS]
    if others:
        return Gate(name, Outcome.INCONCLUSIVE, measured, bound, f"did not pass: {named(others)}")
    return Gate(name, Outcome.PASS, measured, bound)


def _from_json(text: str) -> _Diagnosis:
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise Unreadable("the output holds no JSON")
    value = parse_json(text[start : end + 1].encode(), "the output")
    runs = at(value, "iterations")
    diagnoses = [_one(run) for run in (runs if isinstance(runs, list) else [value])]
    first = diagnoses[0] if diagnoses else _Diagnosis("unknown", [], {}, "the output names no run")
    statuses = [one for diagnosis in diagnoses for one in diagnosis.statuses]
    overall = at(value, "Overall Result")
    if overall is not None:
        statuses.append(_Status("Overall Result", "", str(overall).lower(), str(at(value, "Warning") or "")))
    error = next((diagnosis.error for diagnosis in diagnoses if diagnosis.error), "")
    return _Diagnosis(first.version, statuses, first.measured, error)


def _one(value: Any) -> _Diagnosis:
    root = next((found for name in _ROOTS if isinstance(found := at(value, name), dict)), None)
    if root is None:
        raise Unreadable("the JSON has no “DCGM Diagnostic”")
    version = at(root, "version") or at(value, "metadata", "version") or at(root, "metadata", "version")
    categories = root.get("test_categories")
    statuses: list[_Status] = []
    measured: dict[str, Metric] = {}
    for category in items(categories):
        tests = at(category, "tests")
        for test in items(tests):
            if not isinstance(test, dict):  # DCGM 3 leaves holes for tests that did not run
                continue
            found = list(_statuses(test))
            statuses += found or [_Status(str(test.get("name")), "", "not run")]
            measured |= _measurements(test)
    return _Diagnosis(str(version or _version_of(root)), statuses, measured, str(root.get("runtime_error") or ""))


def _version_of(root: dict[str, Any]) -> str:
    """DCGM 3 names its version only in some releases; its entities tell the two apart."""
    return "3" if "gpu_ids" in str(root)[:200_000] else "unknown"


def _statuses(test: dict[str, Any]) -> Iterator[_Status]:
    name = str(test.get("name"))
    results = test.get("results")
    for result in items(results):
        if not isinstance(result, dict):
            continue
        gpus = result.get("gpu_ids", result.get("gpu_id"))
        entity = f"GPU {gpus}" if gpus is not None else ""
        if result.get("entity_group") is not None:
            entity = f"{result['entity_group']} {result.get('entity_id')}"
        yield _Status(name, entity, str(result.get("status") or "").lower(), _warning(result))
    summary = test.get("test_summary")
    if isinstance(summary, dict):
        yield _Status(name, "", str(summary.get("status") or "").lower(), _warning(summary))


def _warning(result: dict[str, Any]) -> str:
    warnings = result.get("warnings")
    first = warnings[0] if isinstance(warnings, list) and warnings else warnings
    return str(at(first, "warning") or (first if isinstance(first, str) else ""))


def _measurements(test: dict[str, Any]) -> dict[str, Metric]:
    """`GPU 0 GPU to Host bandwidth: 13.08 GB/s` → `gpu_to_host_bandwidth.gpu0`; .min is over all GPUs."""
    found: dict[str, Metric] = {}
    lows: dict[str, Metric] = {}
    results = test.get("results")
    for result in items(results):
        lines = at(result, "info")
        for line in items(lines):
            match = _MEASURED.match(" ".join(str(line).split()))
            if match is None or match[3].count(".") > 1 or match[3] == ".":
                continue
            name = re.sub(r"\W+", "_", match[2].lower()).strip("_")
            metric = Metric(float(match[3]), match[4])
            found[f"{name}.gpu{match[1]}"] = metric
            low = lows.get(name)
            lows[name] = metric if low is None or (low.value or 0) > (metric.value or 0) else low
    return found | {f"{name}.min": metric for name, metric in lows.items()}


def _from_table(text: str) -> _Diagnosis:
    statuses: list[_Status] = []
    version, section, test = "unknown", "", ""
    for line in text.splitlines():
        if found := _SECTION.match(line.strip()):
            section, test = found[1].strip(), ""
            continue
        row = _ROW.match(line.strip())
        if row is None or row[1] in ("Diagnostic", ""):
            if row is not None and row[1] == "" and test and (entity := _ENTITY.match(row[2])):
                statuses.append(_Status(test, entity[1], entity[2].lower()))
            elif (
                row is not None and row[1] == "" and test and (more := re.match(rf"^{_STATUS} - (GPUs?: .*)$", row[2]))
            ):
                statuses.append(_Status(test, more[2], more[1].lower()))
            continue
        name, result = row[1], row[2]
        if section == "Metadata" or name == "DCGM Version":
            version = result if name == "DCGM Version" else version
        elif re.match(r"^(Warning|Info|Error)\b", name):
            _add_message(statuses, result)
        else:
            test = name
            known = re.match(rf"^{_STATUS}(?: - (.*))?$", result)
            entity_text = "" if known is None or known[2] in (None, "All") else known[2]
            statuses.append(_Status(name, entity_text, known[1].lower() if known else result.lower()[:40]))
    if not statuses and version == "unknown":
        last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")
        raise Unreadable(f"the output holds no table of results: {last[:120]}")
    return _Diagnosis(version, statuses, {})


def _add_message(statuses: list[_Status], text: str) -> None:
    """Add the text of a warning to the status before it."""
    if statuses and not statuses[-1].message:
        last = statuses[-1]
        statuses[-1] = _Status(last.test, last.entity, last.status, text)
