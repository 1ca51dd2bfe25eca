"""Units of measured values and of bounds: what they measure, and their size."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit. `factor` turns a value into the base unit of its dimension: seconds, bytes, bytes/s, watts, …"""

    dimension: str
    factor: float


_SI = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_PLAIN: dict[str, Unit] = {
    "%": Unit("percent", 1.0),
    "percent": Unit("percent", 1.0),
    "°C": Unit("temperature", 1.0),
    "℃": Unit("temperature", 1.0),
    "degC": Unit("temperature", 1.0),
    "C": Unit("temperature", 1.0),
    "celsius": Unit("temperature", 1.0),
    "ns": Unit("time", 1e-9),
    "us": Unit("time", 1e-6),
    "µs": Unit("time", 1e-6),
    "μs": Unit("time", 1e-6),
    "ms": Unit("time", 1e-3),
    "s": Unit("time", 1.0),
    "min": Unit("time", 60.0),
    "h": Unit("time", 3600.0),
    "day": Unit("time", 86400.0),
    "days": Unit("time", 86400.0),
    "x": Unit("ratio", 1.0),
    "×": Unit("ratio", 1.0),
    "tok/s": Unit("tokens per second", 1.0),
    "req/s": Unit("requests per second", 1.0),
    "qps": Unit("requests per second", 1.0),
    "rps": Unit("requests per second", 1.0),
    "IOPS": Unit("count", 1.0),
    "kIOPS": Unit("count", 1e3),
    "MIOPS": Unit("count", 1e6),
    "V": Unit("voltage", 1.0),
    "mV": Unit("voltage", 1e-3),
    "rpm": Unit("fan speed", 1.0),
}
_WORDS = {
    "nanosecond": "ns", "nsec": "ns", "microsecond": "us", "usec": "us", "millisecond": "ms", "msec": "ms",
    "second": "s", "sec": "s", "minute": "min", "mins": "min", "hour": "h", "hr": "h",
    "sekunde": "s", "sekunden": "s", "minuten": "min", "stunde": "h", "stunden": "h", "prozent": "%", "pct": "%",
    "秒": "s", "分": "min",
    "token/s": "tok/s", "tokens/s": "tok/s", "tokens/sec": "tok/s", "tok/sec": "tok/s", "tps": "tok/s",
    "tokens per second": "tok/s", "request/s": "req/s", "requests/s": "req/s", "requests/sec": "req/s",
    "req/sec": "req/s", "requests per second": "req/s", "iops": "IOPS", "kiops": "kIOPS", "miops": "MIOPS",
    "watt": "W", "watts": "W", "degrees": "°C", "degc": "°C", "ºc": "°C", "°c": "°C",
    "byte": "B", "bytes": "B", "teraflops": "TFLOPS", "gigaflops": "GFLOPS", "petaflops": "PFLOPS",
}  # fmt: skip


def _table() -> dict[str, Unit]:
    found = dict(_PLAIN)
    for prefix, factor in {**_SI, **_BINARY}.items():
        for byte in (f"{prefix}B", f"{prefix}iB" if prefix and not prefix.endswith("i") else f"{prefix}B"):
            size = 1024 ** ("KMGTP".index(prefix.upper()) + 1) if byte.endswith("iB") and len(prefix) == 1 else factor
            found[byte] = Unit("bytes", float(size))
            for rate in ("/s", "/sec", "ps"):
                found[byte + rate] = Unit("bytes per second", float(size))
        if prefix.endswith("i"):
            continue
        for bit in ("bit/s", "bps", "b/s", "bit/sec"):
            found[prefix + bit] = Unit("bytes per second", factor / 8)
        for flop in ("FLOP/s", "FLOPS", "FLOPs", "FLOPs/s", "flops", "flop/s"):
            found[prefix + flop] = Unit("operations per second", factor)
        for name, dimension in (("W", "power"), ("J", "energy"), ("Hz", "frequency")):
            found[prefix + name] = Unit(dimension, factor)
        found[prefix + "Wh"] = Unit("energy", factor * 3600)
        found[f"{prefix}T/s"] = Unit("transfers per second", factor)
        found[f"{prefix}o"], found[f"{prefix}o/s"] = found[f"{prefix}B"], found[f"{prefix}B/s"]  # French octets
    del found["o"], found["o/s"]
    found["mW"], found["mJ"] = Unit("power", 1e-3), Unit("energy", 1e-3)
    return found


_UNITS = _table()
_SUFFIXES = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "million": 1e6, "billion": 1e9, "Mio": 1e6}
# "5 ms" and "5ms", but of "p99" nothing: the number must not continue a word.
UNIT_TEXT = r"[%°℃µμA-Za-z×秒分][A-Za-z%°℃µμ×]*(?:/[A-Za-z]+)?"


def unit_named(text: str) -> Unit | None:
    """The unit with this name; None if it is not one. Plain nouns ("GPUs", "requests") are not units."""
    text = text.strip()
    if found := _UNITS.get(text):
        return found
    lower = text.lower()
    for word in (lower, lower.removesuffix("s")):
        if name := _WORDS.get(word):
            return _UNITS[name]
    # "gb/s" and "Ms" are typed in any case, but in bytes and bits the case makes a factor of eight: only units that
    # differ from a known one by the case of their prefix are taken.
    same = {unit for name, unit in _UNITS.items() if name.lower() == lower}
    return same.pop() if len(same) == 1 else None


def suffix_named(text: str) -> float | None:
    """The factor of a size suffix, as in `1.2 M`; None if there is none."""
    return _SUFFIXES.get(text)


_NUMBER = re.compile(r"[-−+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
WORD_NUMBERS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "sixteen": 16, "twenty": 20, "thirty": 30, "sixty": 60, "hundred": 100,
}  # fmt: skip
NUMBER_TEXT = (
    r"(?:[-−]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-−]?\d+,\d{1,2}(?!\d)|[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?|"
    + "|".join(WORD_NUMBERS)
    + r")(?![\w.]*\.\d)"
)


def number_of(text: str) -> float | None:
    """The value of a number as people write it: `2,500`, `1e9`, `−3`, `0,5`, `eight`; None if it is not a number."""
    text = text.strip().replace("−", "-")
    if text.lower() in WORD_NUMBERS:
        return float(WORD_NUMBERS[text.lower()])
    if re.fullmatch(r"-?\d+,\d{1,2}", text):
        text = text.replace(",", ".")
    if not _NUMBER.fullmatch(text):
        return None
    return float(text.replace(",", ""))


def short(value: float) -> str:
    """A number as people write it: `912`, `0.72`, `1200000`."""
    return f"{value:.10g}"
