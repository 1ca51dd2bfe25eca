"""The sweep's folder.

One JSON a cell and `sweep.json`, and which cells a resumed sweep still has to run. Needs no torch.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmval_runners.power.grid import Cell
from llmval_runners.power.options import Settings
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import write_json

MANIFEST = "sweep.json"
_REPEATED = {"invalid", "failed"}  # whatever machine they are of, this one measures them again


@dataclass(frozen=True, slots=True)
class Known:
    """What a cell's file says so far."""

    status: str
    attempt: int
    machine: dict[str, Any]  # what it was measured on, by name


class Store:
    """Results of one sweep."""

    def __init__(self, folder: Path, settings: Settings, cells: list[Cell]) -> None:
        """Reads what is there.

        Raises:
            Refused: a file of a cell is of other settings, or not a cell's; nothing is changed.
        """
        self.folder, self._settings = folder, settings
        self.known: dict[str, Known] = {}
        for cell in cells:
            path = self.path(cell)
            if path.exists():
                self.known[cell.name] = self._read(path, cell)

    def path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.name}.json"

    def remaining(self, cells: list[Cell], *, has_energy: bool, retry_refused: bool) -> list[Cell]:
        """The cells without a result that stands.

        Valid and refused ones stand; a throughput without energy stands as long as there is still no energy to be had.
        """
        standing = {"valid"} | (set() if retry_refused else {"refused"}) | (set() if has_energy else {"no_energy"})
        return [cell for cell in cells if cell.name not in self.known or self.known[cell.name].status not in standing]

    def attempt(self, cell: Cell) -> int:
        """The number of the attempt that comes next, from 1."""
        return self.known[cell.name].attempt + 1 if cell.name in self.known else 1

    def save(self, cell: Cell, record: dict[str, Any]) -> Path:
        path = self.path(cell)
        write_json(path, record)
        self.known[cell.name] = Known(record["status"], record["attempt"], _machine(record["identity"], cell.mode))
        return path

    def write_manifest(self, cells: list[Cell], order: list[Cell], identity: dict[str, Any]) -> Path:
        """`sweep.json`: every cell that was asked for, so that a reader knows what is missing.

        Raises:
            Refused: a cell that stands is of another machine than `identity`'s; nothing is changed.
        """
        for cell in cells:
            if (known := self.known.get(cell.name)) is not None and known.status not in _REPEATED:
                self._same_machine(cell, known, _machine(identity, cell.mode))
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

    def counts(self) -> Counter[str]:
        return Counter(known.status for known in self.known.values())

    def _same_machine(self, cell: Cell, known: Known, here: dict[str, Any]) -> None:
        for name, value in here.items():
            before = known.machine[name]
            if None not in (before, value) and before != value:
                raise Refused(
                    f"{self.path(cell)} was measured on {name} {before} and this run is on {value}: pass another "
                    "--output-dir."
                )

    def _read(self, path: Path, cell: Cell) -> Known:
        try:
            record = json.loads(path.read_text())
            if record["kind"] != "power_cell" or record["cell"] != cell.name:
                raise ValueError("another kind")
            settings = record["settings"]
            known = Known(record["status"], int(record["attempt"]), _machine(record["identity"], cell.mode))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(
                f"{path} is not a result of this sweep: move it away, or pass another --output-dir."
            ) from error
        for key, value in self._settings.as_json().items():
            if settings.get(key) != value:
                raise Refused(
                    f"{path} was measured with {key} {settings.get(key)!r} and this run asks for {value!r}: pass "
                    "another --output-dir, "
                    f"or the same settings."
                )
        return known


def _machine(identity: dict[str, Any], mode: str) -> dict[str, Any]:
    """What a figure is of, beside the settings; None where it is not known.

    Transformer Engine only where the mode runs in it: other cells stand when it is installed for --retry-refused.
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
    """The cells of an earlier manifest: a second call with other batches adds to the sweep."""
    try:
        return [str(name) for name in json.loads(path.read_text())["cells"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} is not a sweep's manifest: move it away, or pass another --output-dir.") from error
