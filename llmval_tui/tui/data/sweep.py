"""Follows the folder of a power sweep: `sweep.json` names the cells, and each cell has a file when it ends.

Used in the watcher's thread only. The formats are those of `docs/schemas/power_cell.schema.json`.
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Command
from llmval_tui.terminal.format import parse_utc

SCRIPT = "precision_power_sweep.py"
MANIFEST = "sweep.json"
LARGEST_CELL = 4 << 20
TRACE = 720  # readings of the running cell's power that are kept
STATUSES = ("valid", "invalid", "no_energy", "refused", "failed")
_NAME = re.compile(r"(?P<model>\d+L-d\d+-h\d+-ff\d+-s\d+)-b(?P<batch>\d+)-(?P<mode>[a-z0-9_]+)")


@dataclass(frozen=True, slots=True)
class CellPhase:
    """Prefill or decode of a cell. Tokens per joule are None if the phase is not valid."""

    tokens_per_s: float | None
    tokens_per_joule: float | None
    power_w: float | None


@dataclass(frozen=True, slots=True)
class SweepCell:
    """One cell. `status` is one of `STATUSES`, or None without a result."""

    name: str
    model: str
    batch: int
    mode: str
    status: str | None = None
    reasons: tuple[str, ...] = ()
    phases: tuple[tuple[str, CellPhase], ...] = ()
    ended_utc: str = ""

    def phase(self, name: str) -> CellPhase | None:
        return next((phase for known, phase in self.phases if known == name), None)


@dataclass(frozen=True, slots=True)
class SweepSnapshot:
    """A sweep at one moment."""

    folder: str
    cells: tuple[SweepCell, ...]
    running: str | None = None  # name of the running cell
    doing: str = ""  # load, warmup, measure or cooldown, with phase and trial
    power: tuple[float | None, ...] = ()  # W of all its GPUs, oldest first
    power_first: int = 0  # number of the first reading since the cell began
    problem: str | None = None

    @property
    def done(self) -> int:
        return sum(cell.status is not None for cell in self.cells)


def parse_name(name: str) -> SweepCell | None:
    """The cell of a name such as `32L-d5120-h40-ff20480-s4096-b2-bf16`; None if it is not a cell's name."""
    match = _NAME.fullmatch(name)
    return SweepCell(name, match["model"], int(match["batch"]), match["mode"]) if match else None


def sweep_folder(commands: Sequence[Command], cwd: str) -> Path | None:
    """The output folder of the sweep among these commands; None if there is no sweep."""
    for command in commands:
        argv = list(command.argv)
        if not any(Path(word).name == SCRIPT for word in argv):
            continue
        for index, word in enumerate(argv):
            if word == "--output-dir" and index + 1 < len(argv):
                return Path(cwd) / argv[index + 1]
            if word.startswith("--output-dir="):
                return Path(cwd) / word.partition("=")[2]
    return None


@dataclass(slots=True)
class SweepFollower:
    """Follows one sweep: its folder, and the run's events about the running cell."""

    folder: Path
    until_ns: int | None = None  # in a replay, later results are hidden
    running: str | None = None
    doing: str = ""
    _power: deque[float | None] = field(default_factory=lambda: deque(maxlen=TRACE))
    _count: int = 0
    _cells: dict[str, tuple[tuple[int, int], SweepCell]] = field(default_factory=dict)

    def take(self, kind: str, data: dict[str, Any]) -> None:
        """Update from one event of the run."""
        if kind == "phase":
            stage = clean_line(str(data.get("name", "")))
            name, _, rest = clean_line(str(data.get("message", ""))).partition(", ")
            cell = parse_name(name)
            if cell is not None and cell.name != self.running:
                self.running, self._count = cell.name, 0
                self._power.clear()
            # Between two cells the last one is over, but its power stays visible until the next one begins.
            self.doing = f"{stage}{', ' + rest if rest else ''}" if cell else f"{stage} {name}".strip()
        elif kind == "progress" and data.get("label") == self.running:
            self.doing = "ended"
        elif kind == "metrics" and "power_w" in data:
            self._power.append(as_number(data["power_w"]))
            self._count += 1

    def snapshot(self, *, alive: bool) -> SweepSnapshot | None:
        """The sweep now; None before its manifest exists."""
        try:
            manifest = orjson.loads((self.folder / MANIFEST).read_bytes())
            names = [str(name) for name in manifest["cells"]]
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
            text = f"{self.folder / MANIFEST} is not a sweep's manifest ({type(error).__name__})."
            return SweepSnapshot(str(self.folder), (), problem=text)
        cells = tuple(cell for name in names if (cell := self._cell(name)) is not None)
        unread = len(names) - len(cells)
        return SweepSnapshot(
            folder=str(self.folder),
            cells=cells,
            running=self.running if alive and self.doing != "ended" else None,
            doing=self.doing if alive else "",
            power=tuple(self._power),
            power_first=self._count - len(self._power),
            problem=f"{unread} cells have names that this version does not know." if unread else None,
        )

    def _cell(self, name: str) -> SweepCell | None:
        bare = parse_name(name)
        if bare is None:
            return None
        path = self.folder / f"{name}.json"
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._cells.get(name)
            if known is None or known[0] != stamp:
                known = self._cells[name] = (stamp, read_cell(path, bare))
            ended = parse_utc(known[1].ended_utc)
            later = self.until_ns is not None and ended is not None and ended.timestamp() * 1e9 > self.until_ns
            return bare if later else known[1]
        except OSError:
            return bare


def read_cell(path: Path, bare: SweepCell) -> SweepCell:
    """The cell with the result of its file; a file that cannot be read as a result gives `failed` with the reason."""
    try:
        with path.open("rb") as file:
            record = orjson.loads(file.read(LARGEST_CELL))
        status = record["status"]
        if record["kind"] != "power_cell" or status not in STATUSES:
            raise ValueError(f"kind {record['kind']!r}, status {status!r}")
        phases = tuple((str(name), _phase(phase)) for name, phase in record["phases"].items())
        reasons = tuple(clean_line(str(reason)) for reason in record["reasons"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        why = clean_line(f"{path.name} is not a cell's result: {error}")
        return replace(bare, status="failed", reasons=(why,))
    return replace(bare, status=status, reasons=reasons, phases=phases, ended_utc=str(record.get("ended_utc", "")))


def _phase(value: dict[str, Any]) -> CellPhase:
    # An invalid phase has no tokens per joule, even if the file has a value.
    efficiency = value["tokens_per_joule"] if value.get("valid", True) else None
    return CellPhase(as_number(value["tokens_per_s"]), as_number(efficiency), as_number(value["power_w"]))


def as_number(value: object) -> float | None:
    """The value of a JSON number; None for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
