"""What words mean in the results of fio, perftest, STREAM and lm_eval; `metric_names` asks here."""

import re
from collections.abc import Callable

_TIME = re.compile(r"(?:[nuµμm]s|[num]?secs?|s|(?:nano|micro|milli)?seconds?)", re.IGNORECASE)
_RATE = re.compile(r"[KMGT]?i?(?:B|b|bit|bits|byte|bytes|o)(?:/s|ps|/sec)", re.IGNORECASE)
_SPEED = r"(?:bandwidth|bw|throughput|speed|rate)"
_DISK = re.compile(
    rf"\b(?:{_SPEED}|rand(?:om)?|seq(?:uential)?|disk|nvme|storage|io|fio|clat|completion|latency|lat|iops|read|write|reads"
    r"|writes|randread|randwrite|4k|1m|128k)\b"
)


def of_fio(text: str, unit: str | None, statistic: str | None, rest: str) -> str | None:
    """`read.bw`, `iops`, `write.latency.p99`; without a direction the name of the only one."""
    ways = {way for way in ("read", "write") if re.search(rf"\b(?:rand)?{way}s?\b", text)}
    if len(ways) > 1 or re.sub(r"\W", "", _DISK.sub("", rest if statistic else text)):
        return None
    way = f"{ways.pop()}." if ways else ""
    if "iops" in text or (unit or "").upper().endswith("IOPS"):
        return f"{way}iops" if statistic is None else None
    if _TIME.fullmatch(unit or ""):
        return f"{way}latency.{statistic}" if statistic else None
    return f"{way}bw" if _RATE.fullmatch(unit or "") and statistic is None else None


def of_perftest(text: str, unit: str | None) -> str | None:
    """`bw.average`, `bw.peak`, `t_typical`; a bound in MB/s is compared with the number that the tool prints."""
    if _TIME.fullmatch(unit or ""):
        match = re.fullmatch(
            r"t (min|max|typical|avg|stdev)|(typical|min|max) latency|(average|avg|mean) latency", text
        )
        if match is None:
            return "p99" if text in ("p99", "p99 latency", "99% percentile") else None
        return f"t_{match[1] or match[2] or 'avg'}"
    if not _RATE.fullmatch(unit or ""):
        return None
    printed = ".printed" if (unit or "").startswith("MB") else ""
    if re.fullmatch(rf"(?:peak|max|maximum) {_SPEED}|{_SPEED} peak", text):
        return f"bw.peak{printed}"
    named = re.fullmatch(rf"|(?:average |avg |mean )?(?:write |read |send |rdma |ib )*{_SPEED}(?: average| avg)?", text)
    return f"bw.average{printed}" if named else None


def of_stream(text: str, unit: str | None) -> str | None:
    """`triad`; without a function the slowest one."""
    functions = [name for name in ("copy", "scale", "add", "triad") if re.search(rf"\b{name}\b", text)]
    if len(functions) > 1 or unit is None:
        return None
    if functions:
        return functions[0]
    return "slowest" if re.fullmatch(rf"|(?:stream |memory |best )*{_SPEED}", text) else None


def of_lm_eval(text: str, unit: str | None) -> str | None:
    """`mmlu.acc` for “mmlu accuracy”, and `acc` for “accuracy”; other metrics have the tool's own names."""
    task, _, last = text.rpartition(" ")
    if last not in ("acc", "accuracy") or unit is not None:
        return None
    return f"{task.replace(' ', '_')}.acc" if task else "acc"


OF_TOOL: dict[str, Callable[[str, str | None], str | None]] = {
    "perftest": of_perftest,
    "STREAM": of_stream,
    "lm_eval": of_lm_eval,
}
