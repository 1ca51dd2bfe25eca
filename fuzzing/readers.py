"""Files that llmval reads a part of: events, samples, the ledger of ticks, logs, and settings in TOML."""

import json
import os
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

from fuzzing.mutation import damage, mutate
from fuzzing.target import Target, Wrong, scratch
from llmval_tui.actions.review.settings import parse_settings
from llmval_tui.config import parse_config
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import to_json
from llmval_tui.foundation.text import CONTROLS, clean_line
from llmval_tui.runs.events import EventFollower
from llmval_tui.runs.tick_ledger import TickLedger
from llmval_tui.telemetry.sample import GpuSample, HostSample, Note, Sample
from llmval_tui.tui.data.log_file import LogWindowFile
from llmval_tui.tui.drawing.theme_files import read_theme

ROOT = Path(__file__).parents[1]

_EVENTS: tuple[dict[str, Any], ...] = (
    {"v": 1, "t_ns": 1, "mono_ns": 1, "rank": 0, "kind": "phase", "data": {"name": "load", "index": 1, "total": 3}},
    {"v": 1, "t_ns": 2, "mono_ns": 2, "rank": 0, "kind": "progress", "data": {"done": 1, "total": 3, "unit": "cells"}},
    {"v": 1, "t_ns": 3, "mono_ns": 3, "rank": 1, "kind": "metrics", "data": {"ttft_p50_ms": 1.5, "queued": None}},
    {"v": 1, "t_ns": 4, "mono_ns": 4, "rank": 1, "kind": "error", "data": {"code": "x", "message": "no \x1b[2J"}},
)
_SAMPLE: dict[str, Any] = json.loads(
    Sample(
        1,
        1,
        HostSample(cpu_percent=1.5, memory_used_bytes=10),
        [GpuSample(0, uuid="GPU-1", power_w=300.5, throttle_reasons=["hw_slowdown"], processes=[1, 2])],
        [Note("nvml", "gpu_lost", "GPU 1 is gone", 1)],
    ).to_line()
)
_LEDGER: dict[str, Any] = {
    "v": 1, "kind": "tick", "section": "1. Part", "text": "Run", "occurrence": 1, "checklist": "list.md",
    "number": "1.1", "utc": "2026-01-01T00:00:00Z", "host": "h", "run_id": "r", "evidence": [{"path": "a",
    "sha256": "0", "bytes": 1}],
}  # fmt: skip


def _lines(values: list[Any], chance: random.Random) -> bytes:
    """JSON lines, some of them with another value, and bytes changed in some."""
    found = []
    for value in values:
        value = json.loads(json.dumps(value))
        for _ in range(chance.randrange(3)):
            value = mutate(value, chance)
        found.append(json.dumps(value).encode("utf-8", "surrogatepass"))
    data = b"\n".join(found) + b"\n"
    return damage(data, chance) if chance.random() < 0.5 else data


def _file(name: str, data: bytes) -> Path:
    path = scratch("readers") / name
    path.write_bytes(data)
    return path


def _check_clean(text: str | None, where: str) -> None:
    if text is not None and CONTROLS.search(text):
        raise Wrong(f"{where} has control characters: {text!r}")


def events(chance: random.Random) -> str:
    """A damaged events.jsonl."""
    follower = EventFollower(_file("events.jsonl", _lines(chance.choices(_EVENTS, k=chance.randrange(1, 6)), chance)))
    found = follower.poll()
    progress = follower.progress
    for text in (progress.phase, progress.unit, *progress.problems, *progress.metrics):
        _check_clean(text, "an event")
    if progress.fraction is not None and not 0 <= progress.fraction <= 1:
        raise Wrong(f"the finished share is {progress.fraction}")
    to_json(progress)
    return "events" if found else "no event"


def samples(chance: random.Random) -> str:
    """A damaged line of telemetry.jsonl."""
    sample = Sample.from_line(_lines([_SAMPLE], chance))
    if sample is None:
        return "no sample"
    again = Sample.from_line(sample.to_line())
    if again is None:
        raise Wrong(f"{sample} is a sample, and its own line is none")
    return "sample"


def ledger(chance: random.Random) -> str:
    """A damaged ledger.jsonl."""
    whole = chance.randrange(4)
    data = to_json(_LEDGER) * whole + _lines([_LEDGER], chance)
    lines = TickLedger(_file("ledger.jsonl", data))
    if len(lines.lines()) < whole:
        raise Wrong("a damaged line costs the lines before it")
    for sentence in lines.unreadable:
        if "\n" in sentence:
            raise Wrong(f"not one sentence: {sentence!r}")
    return "with unreadable lines" if lines.unreadable else "readable"


_LOG_PIECES = (
    b"\x1b[", b"\x1b]0;title", b"\x07", b"\x1b\\", b"\x1bP", b"\x9b", b"\xc2\x9b", b"\xc2\x9d", b"\xc2\x9c", b"\r",
    b"\n",     b"\r\n", b"\t", b"\x08", b"\x00", b"\x7f", "\u202e\u2066\u2028\u2029".encode(), b"\xff\xfe",
    "é́💥".encode(),
    b"word",     b"2J", b"31m", b"?1049h", b" ", b"0;", b"A" * 300, b"\x1b(0", b"\x1b#8", b"\x1b", b"\xed\xa0\x80",
    b"\xf0\x9f",
)  # fmt: skip


def logs(chance: random.Random) -> str:
    """A log of escape sequences and broken UTF-8, which grows and is cut while it is read."""
    path = _file("main.log", b"".join(chance.choices(_LOG_PIECES, k=chance.randrange(1, 60))))
    file = LogWindowFile(path)
    try:
        for _ in range(3):
            size = file.poll()
            count = chance.randrange(1, 30)
            at = file.line_start(chance.randrange(size + 1))
            windows = [file.backward(size, count), file.forward(at, count)]
            for line in (line for window in windows for line in window.lines):
                _check_clean(line.text, "a log line")
                if "\t" in line.text or line.text != clean_line(line.text):
                    raise Wrong(f"{line.text!r} is not clean after cleaning")
            forward = windows[1].lines
            if any(later.offset <= before.offset for before, later in pairwise(forward)):
                raise Wrong("a line comes twice")
            with path.open("r+b") as changed:
                if chance.random() < 0.3:
                    changed.truncate(chance.randrange(size + 1))
                changed.seek(0, os.SEEK_END)
                changed.write(b"".join(chance.choices(_LOG_PIECES, k=chance.randrange(20))))
    finally:
        file.close()
    return "clean"


_TOML = {
    "settings": b'folder = "."\nnever_ask = ["python"]\n[values]\npod = "a"\n[env]\nA = "b"\n[python]\n'
    b'"3.11" = "/usr/bin/python3"\n[[bounds]]\nitem = "x"\nexpect = "a < 1"\n[[answer]]\nsection = "1"\nitem = "x"\n'
    b'answer = "run"\nsha256 = "' + b"0" * 64 + b'"\ncommands = ["a b"]\nby = "me"\nwhen = 2026-01-01T00:00:00Z\n',
    "config": b'theme = "dark"\ninterval = 1.0\nmouse = true\nascii = false\n[keys]\ncomplete = "c"\n',
}
_TOML_VALUES = (
    b"1", b"-1", b"1e400", b"nan", b'""', b'"\\u0000"', b"[]", b"[[1]]", b"{}", b"{a = 1}", b"true", b"2026-01-01",
    b"07:32:00", b'"""x\ny"""', b"'\x1b'", b"\xff", b"0x10", b"[values]", b"answer = 1", b"\n[answer]\n",
    b"\n[[env]]\n",
)  # fmt: skip


def toml(chance: random.Random) -> str:
    """A damaged settings file, configuration or theme."""
    kind = chance.choice(("settings", "config", "theme"))
    data = _TOML[kind] if kind in _TOML else chance.choice(sorted(ROOT.glob("themes/*.toml"))).read_bytes()
    lines = data.split(b"\n")
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(lines))
        name, equals, _ = lines[at].partition(b" = ")
        lines[at] = name + equals + chance.choice(_TOML_VALUES) if chance.random() < 0.7 else damage(lines[at], chance)
        if chance.random() < 0.2:
            del lines[chance.randrange(len(lines))]
        lines = lines or [b""]
    data = b"\n".join(lines)
    path = _file("list.llmval.toml", data)
    try:
        if kind == "settings":
            parse_settings(data.decode("utf-8", "replace"), path, scratch("readers"))
        elif kind == "config":
            parse_config(data.decode("utf-8", "replace"), path)
        else:
            read_theme(path)
    except Refused as refusal:
        if "\n" in str(refusal):
            raise Wrong(f"{data!r} is refused in several lines: {refusal}") from refusal
        return "refused"
    return "accepted"


READ = ("llmval_tui.foundation", "llmval_tui.runs", "llmval_tui.telemetry")
TARGETS = (
    Target("events", "damaged event files: no exception, no control character", events, 200_000, packages=READ),
    Target(
        "samples",
        "damaged telemetry lines: a sample that can be written again, or none",
        samples,
        200_000,
        packages=READ,
    ),
    Target("ledgers", "damaged ledgers: a damaged line is named and costs no other", ledger, 100_000, packages=READ),
    Target("logs", "logs of escape sequences, cut while they are read: clean lines", logs, 100_000, packages=READ),
    Target("toml", "damaged settings, configurations and themes: read, or refused in one sentence", toml, 100_000),
)
