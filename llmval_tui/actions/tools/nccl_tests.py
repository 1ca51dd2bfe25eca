"""Reads the results of nccl-tests: `all_reduce_perf` and its siblings, from their output or from `-J FILE.json`.

The output has one line for each size, with time, algbw, busbw and the number of wrong elements, out-of-place and
in-place, and at its end `# Out of bounds values : 0 OK` and `# Avg bus bandwidth : 409.5`. With `-c 0` nothing is
checked, and the end says `0 OK` all the same. A binary without MPI under mpirun runs as many separate tests of its own
GPUs, each with its own end.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from llmval_tui.actions.tools.command_line import option
from llmval_tui.actions.tools.files import Unreadable, at, count, number, read_json_file, read_text_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Promise, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

_NUMBER = r"(?:[0-9.]+(?:e[+-]?\d+)?|-?nan|N/A)"
_HALF = rf"\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})"
# size, count, type, redop, root, then time, algbw, busbw, #wrong twice; old versions lack redop or root.
_LINE = re.compile(rf"^\s*(\d{{1,19}})\s+(\d{{1,19}})\s+\w+(?:\s+\w+)?(?:\s+-?\d+)?{_HALF}{_HALF}", re.MULTILINE)
_IN_PLACE_LINE = re.compile(rf"^\s*(\d{{1,19}})\s+(\d{{1,19}})\s+\w+(?:\s+\w+)?(?:\s+-?\d+)?{_HALF}\s*$", re.MULTILINE)
_BOUNDS = re.compile(r"^# Out of bounds values\s*:\s*(\d{1,19})\s*(\S+)", re.MULTILINE)
_AVERAGE = re.compile(r"^# Avg bus bandwidth\s*:\s*(\S+)(?:[ \t]+(OK|FAILED))?", re.MULTILINE)
_VERSION = re.compile(r"nccl-tests version (\S+).*nccl-library=(\d+)")
_RANK = re.compile(r"^#\s+Rank\s+(\d+)\b", re.MULTILINE)
_JSON_VERSIONS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class _Size:
    """The measurement of one size; None: not measured."""

    bytes: int
    algbw: float | None  # GB/s, the worse of out-of-place and in-place
    busbw: float | None
    wrong: float | None  # None: not checked


@dataclass(frozen=True, slots=True)
class _Test:
    version: str
    known: bool  # whether this reader knows the format
    ranks: int | None
    sizes: list[_Size]
    out_of_bounds: int | None
    average: float | None
    average_okay: bool | None  # None: no NCCL_TESTS_MIN_BW to compare with
    errors: str = ""


class NcclTests(Tool):
    """One of the `*_perf` programs."""

    name = "nccl-tests"
    versions = "2.13 to 2.19, JSON version 1 to 3"

    def outputs(self) -> tuple[Promise, ...]:
        path = option(self.arguments, "-J", "--output_file")
        # It opens the file exclusively, and else takes the name with a number at its end.
        return (Promise(path, replaces=False),) if path and path.endswith(".json") else ()

    def missing_flag(self) -> str | None:
        if option(self.arguments, "-c", "--check") == "0":
            return "with -c 0 no result is checked, so the item cannot pass: leave it out"
        return None

    def read(self, left: LeftFiles) -> ToolResult:
        text = read_text_file(left.stdout)
        try:
            files = [file for file in left.files if file.suffix == ".json"]
            test = _from_json(read_json_file(files[0])) if files else _from_text(text)
        except Unreadable as problem:
            return unreadable(self, "not readable", str(problem))
        separate = max(text.count("# Out of bounds values"), 1)
        gates = [
            format_gate(self, test.version)
            if test.known
            else format_gate(self, test.version, Outcome.INCONCLUSIVE, "this reader does not know the format"),
            _one_test(separate, test),
            _wrong(test),
            _bandwidth(test),
        ]
        if test.errors:
            gates.append(Gate("NCCL errors", Outcome.FAIL, test.errors[:200], "none"))
        metrics = _metrics(test)
        peak = metrics["busbw.max"].value
        average = "unknown" if test.average is None else f"{test.average:.2f}"
        sentence = f"nccl-tests: average busbw {average} GB/s over {len(test.sizes)} sizes"
        if peak is not None:
            sentence += f", {peak:.2f} GB/s at most, {test.ranks if test.ranks is not None else 'unknown'} ranks"
        return ToolResult(gates, metrics, sentence)


def _from_json(value: Any) -> _Test:
    version, results = at(value, "version"), at(value, "results")
    if not isinstance(results, list) or version is None:
        raise Unreadable("the JSON has no version or no results, so it is not complete")
    sizes = []
    for result in results:
        halves = [half for key in ("out_of_place", "in_place") if isinstance(half := at(result, key), dict)]
        size = count(at(result, "size"))
        if size is None or not halves:
            raise Unreadable("a result of the JSON has no size or no measurement")
        sizes.append(
            _size(size, [(number(h.get("alg_bw")), number(h.get("bus_bw")), number(h.get("nwrong"))) for h in halves])
        )
    devices = at(value, "config", "devices")
    if devices is None:
        devices = at(value, "devices")
    okay, bounds = at(value, "average_bus_bandwidth", "okay"), at(value, "out_of_bounds")
    out_of_bounds = count(at(bounds, "count"))
    if out_of_bounds == 0 and str(at(bounds, "okay")).lower() != "true":
        out_of_bounds = None
    errors = at(value, "errors")
    return _Test(
        version=f"JSON version {version}, NCCL {at(value, 'nccl_version')}",
        known=version in _JSON_VERSIONS and not isinstance(version, bool),
        ranks=len(devices) if isinstance(devices, list) else None,
        sizes=sizes,
        out_of_bounds=out_of_bounds,
        average=number(at(value, "average_bus_bandwidth", "bandwidth")),
        average_okay={"true": True, "false": False}.get(str(okay).lower()),
        errors="; ".join(str(error) for error in errors if error) if isinstance(errors, list) else "",
    )


def _from_text(text: str) -> _Test:
    if "(+ per-iteration)" in text:
        raise Unreadable("with -I 1 the output has other columns: add -J artifacts/NAME.json")
    bounds, averages = list(_BOUNDS.finditer(text)), list(_AVERAGE.finditer(text))
    if not bounds or not averages:
        raise Unreadable(
            "the output has no line “# Out of bounds values” and “# Avg bus bandwidth”, so the test did not end"
        )
    sizes = [
        _size(int(found[1]), [_half(found.groups()[2:6]), _half(found.groups()[6:10])])
        for found in _LINE.finditer(text)
    ]
    if not sizes:
        sizes = [_size(int(found[1]), [_half(found.groups()[2:6])]) for found in _IN_PLACE_LINE.finditer(text)]
    wrong = sum(int(found[1]) for found in bounds)
    version = _VERSION.search(text)
    bandwidths = [_float(found[1]) for found in averages]
    known = [value for value in bandwidths if value is not None]
    checked = {found[2] for found in averages if found[2]}
    return _Test(
        version=f"nccl-tests {version[1]}, NCCL {version[2]}" if version else "the output names no version",
        known=True,
        ranks=len(set(_RANK.findall(text))) or None,
        sizes=sizes,
        out_of_bounds=wrong if all((found[2] == "OK") == (found[1] == "0") for found in bounds) else None,
        average=min(known) if len(known) == len(bandwidths) else None,
        average_okay=None if not checked else "FAILED" not in checked,
        errors="; ".join(re.findall(r"^# error: (.+)$", text, re.MULTILINE)),
    )


def _half(words: Sequence[str | None]) -> tuple[float | None, float | None, float | None]:
    """algbw, busbw and #wrong of time, algbw, busbw, #wrong."""
    return _float(words[1]), _float(words[2]), _float(words[3])


def _float(text: str | None) -> float | None:
    try:
        return number(float(text or ""))
    except ValueError:
        return None


def _size(size: int, halves: Sequence[tuple[float | None, float | None, float | None]]) -> _Size:
    """The worse of out-of-place and in-place; unknown if either is."""

    def worse(values: list[float | None], worst: Any) -> float | None:
        known = [value for value in values if value is not None]
        return worst(known) if known and len(known) == len(values) else None

    wrong = [half[2] for half in halves]
    # Some collectives do not check one of the two.
    checked = [value for value in wrong if value is not None]
    return _Size(
        size,
        worse([half[0] for half in halves], min),
        worse([half[1] for half in halves], min),
        sum(checked) if checked else None,
    )


def _one_test(separate: int, test: _Test) -> Gate:
    """Whether all ranks took part in one test."""
    name, bound = "one test of all ranks", "one test with more than one rank"
    measured = f"{test.ranks if test.ranks is not None else 'unknown'} ranks"
    if separate > 1:
        reason = "every process tested its own GPUs alone, because the program was built without MPI"
        return Gate(name, Outcome.FAIL, f"{separate} separate tests", bound, reason)
    if test.ranks is None:
        return Gate(name, Outcome.INCONCLUSIVE, measured, bound, "the result lists no ranks")
    if test.ranks < 2:
        return Gate(name, Outcome.INCONCLUSIVE, measured, bound, "with one rank nothing crosses between GPUs")
    return Gate(name, Outcome.PASS, measured, bound)


def _wrong(test: _Test) -> Gate:
    name, bound = "wrong results", "every size checked, 0 wrong elements, 0 values out of bounds"
    wrong = sum(size.wrong or 0 for size in test.sizes)
    unchecked = sum(size.wrong is None for size in test.sizes)
    out_of_bounds = "unknown" if test.out_of_bounds is None else str(test.out_of_bounds)
    measured = f"{wrong:g} wrong elements, {out_of_bounds} values out of bounds"
    if wrong or test.out_of_bounds:
        sizes = ", ".join(str(size.bytes) for size in test.sizes if size.wrong)[:100]
        return Gate(name, Outcome.FAIL, measured, bound, f"wrong at {sizes} bytes" if sizes else "")
    if not test.sizes:
        return Gate(
            name, Outcome.INCONCLUSIVE, "no sizes", bound, "the result has no line that this reader understands"
        )
    if unchecked:
        reason = f"{unchecked} of {len(test.sizes)} sizes were not checked (N/A): leave out -c 0"
        return Gate(name, Outcome.INCONCLUSIVE, measured, bound, reason)
    if test.out_of_bounds is None:
        return Gate(name, Outcome.INCONCLUSIVE, measured, bound, "the result contradicts itself")
    return Gate(name, Outcome.PASS, measured, bound)


def _bandwidth(test: _Test) -> Gate:
    """The average against NCCL_TESTS_MIN_BW; without it any positive average."""
    name = "average busbw"
    if test.average is None or test.average <= 0:
        reason = "no bandwidth was measured"
        return Gate(name, Outcome.INCONCLUSIVE, "unknown" if test.average is None else "0 GB/s", "more than 0", reason)
    measured = f"{test.average:.2f} GB/s"
    highest = max((size.busbw for size in test.sizes if size.busbw is not None), default=None)
    # The average has both ways of each size, and `busbw` is the worse of the two.
    if highest is not None and test.average > 2 * highest:
        reason = "the average is above every size, so the result contradicts itself"
        return Gate(name, Outcome.INVALID, measured, f"at most {highest:.2f} GB/s, the highest of a size", reason)
    if test.average_okay is None:
        return Gate(name, Outcome.PASS, measured, "more than 0; the test had no NCCL_TESTS_MIN_BW to compare with")
    return Gate(name, Outcome.PASS if test.average_okay else Outcome.FAIL, measured, "90 % of NCCL_TESTS_MIN_BW")


def _metrics(test: _Test) -> dict[str, Metric]:
    def bandwidth(value: float | None) -> Metric:
        return Metric(value, "GB/s", "" if value is not None else "the result does not say")

    found = {
        "busbw": bandwidth(test.average),
        "ranks": Metric(test.ranks, "ranks", "" if test.ranks is not None else "the result does not say"),
        "out_of_bounds": Metric(test.out_of_bounds, "", "" if test.out_of_bounds is not None else "unknown"),
    }
    checked = bool(test.sizes) and all(size.wrong is not None for size in test.sizes)
    total = sum(size.wrong or 0 for size in test.sizes)
    found["wrong"] = Metric(total if checked else None, "", "" if checked else "some sizes were not checked")
    for name in ("busbw", "algbw"):
        values = {size.bytes: getattr(size, name) for size in test.sizes}
        known = [value for value in values.values() if value is not None]
        found[f"{name}.max"] = bandwidth(max(known, default=None))
        found[f"{name}.min"] = bandwidth(min(known, default=None))
        found[f"{name}.mean"] = bandwidth(fmean(known) if known else None)
        found |= {f"{name}.{size}": bandwidth(value) for size, value in values.items()}
    return found


PROGRAMS = tuple(
    f"{name}_perf"
    for name in (
        "all_gather", "all_reduce", "alltoall", "alltoallv", "broadcast", "gather", "hypercube", "reduce",
        "reduce_scatter", "scatter", "sendrecv",
    )
)  # fmt: skip
