"""The result folder of a sweep: one JSON file per cell, and `sweep.json`. Needs no torch.

Decides which cells a resumed sweep still has to run.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmval_runners.power.grid import Cell
from llmval_runners.power.options import SweepSettings
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import read_json, write_json
from llmval_runners.process.output import OutputFile

MANIFEST = "sweep.json"
_REPEATED = {"invalid", "failed"}  # measured again, so they may be from another machine


@dataclass(frozen=True, slots=True)
class StoredCell:
    """The present state of a cell's file."""

    status: str
    attempt: int
    machine: dict[str, Any]  # see `_machine`


class Store:
    """The results of one sweep."""

    def __init__(self, folder: Path, settings: SweepSettings, cells: list[Cell]) -> None:
        """Read the existing results.

        Raises:
            Refused: another sweep runs in the folder, a cell's file has other settings, or it is not a cell's record;
                nothing is changed.
        """
        self.folder, self._settings = folder, settings
        self.lock = OutputFile(folder / MANIFEST, "--output-dir")
        self.stored: dict[str, StoredCell] = {}
        for cell in cells:
            path = self.path(cell)
            if path.exists():
                try:
                    self.stored[cell.name] = self._read(path, cell)
                except Refused:
                    self.release()
                    raise

    def release(self) -> None:
        """Let another sweep use the folder."""
        self.lock.release()

    def path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"

    def remaining(self, cells: list[Cell], *, has_energy: bool, retry_refused: bool) -> list[Cell]:
        """The cells that still need to run.

        Valid and refused results are final. A throughput without energy is final as long as energy is unavailable.
        """
        final = {"valid"} | (set() if retry_refused else {"refused"}) | (set() if has_energy else {"no_energy"})
        return [cell for cell in cells if cell.name not in self.stored or self.stored[cell.name].status not in final]

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """The record of a cell as it is on disk; None if there is none yet."""
        return read_json(self.path(cell))

    def attempt(self, cell: Cell) -> int:
        """The number of the next attempt, from 1."""
        return self.stored[cell.name].attempt + 1 if cell.name in self.stored else 1

    def save(self, cell: Cell, record: dict[str, Any]) -> Path:
        path = self.path(cell)
        write_json(path, record)
        self.stored[cell.name] = StoredCell(
            record["status"], record["attempt"], _machine(record["identity"], cell.mode)
        )
        return path

    def write_manifest(self, cells: list[Cell], order: list[Cell], identity: dict[str, Any]) -> Path:
        """Write `sweep.json`. It lists every requested cell, so that a reader can tell which are missing.

        Raises:
            Refused: a final result is from a machine other than `identity`'s; nothing is changed.
        """
        for cell in cells:
            if (stored := self.stored.get(cell.name)) is not None and stored.status not in _REPEATED:
                self._check_machine(cell, stored, _machine(identity, cell.mode))
        path = self.folder / MANIFEST
        planned = list(dict.fromkeys([*_planned(path), *(cell.name for cell in cells)]))
        manifest = {
            "schema": 1,
            "kind": "power_sweep",
            "cells": planned,
            "order": [cell.name for cell in order],
            "settings": self._settings.as_json(),
            "identity": identity,
        }
        write_json(path, manifest)
        return path

    def _check_machine(self, cell: Cell, stored: StoredCell, here: dict[str, Any]) -> None:
        for name, value in here.items():
            before = stored.machine[name]
            if None not in (before, value) and before != value:
                raise Refused(
                    f"{self.path(cell)} was measured on {name} {before} and this run is on {value}: pass another "
                    "--output-dir."
                )

    def _read(self, path: Path, cell: Cell) -> StoredCell:
        try:
            record = json.loads(path.read_text())
            if record["kind"] != "power_cell" or record["cell"] != cell.name:
                raise ValueError("another kind")
            settings = record["settings"]
            stored = StoredCell(record["status"], int(record["attempt"]), _machine(record["identity"], cell.mode))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(
                f"{path} is not a result of this sweep: move it away, or pass another --output-dir."
            ) from error
        for key, value in self._settings.as_json().items():
            if settings.get(key) != value:
                raise Refused(
                    f"{path} was measured with {key} {settings.get(key)!r} and this run asks for {value!r}: pass "
                    "another --output-dir, or the same settings."
                )
        return stored


def _machine(identity: dict[str, Any], mode: str) -> dict[str, Any]:
    """The parts of the machine that figures depend on; None for an unknown one.

    Transformer Engine counts only for the mode that uses it, so that installing it (and --retry-refused) keeps the
    results of other modes.
    """
    gpus = identity["gpus"]
    limits = [gpu["power_limit_w"] for gpu in gpus]
    found = {
        "GPU": ", ".join(gpu["uuid"] for gpu in gpus) or None,
        "power limit": None if None in limits else ", ".join(f"{limit:g} W" for limit in limits) or None,
        "driver": identity["driver"],
        "torch": identity["torch"],
    }
    return found | ({"transformer_engine": identity["transformer_engine"]} if mode == "fp8_te" else {})


def _planned(path: Path) -> list[str]:
    """The cells of an existing manifest. A second call with other batch sizes adds to the sweep."""
    try:
        return [str(name) for name in json.loads(path.read_text())["cells"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} is not a sweep's manifest: move it away, or pass another --output-dir.") from error
