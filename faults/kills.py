"""SIGKILL and disk faults at every write, sync and rename, and again during the recovery."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.injection import ERRORS, Ended, Fault, run
from faults.report import Finding, Row
from faults.scenes import SCENES, Scene, complaints


@contextmanager
def _prepared(scene: Scene) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    try:
        scene.prepare(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _points(scene: Scene) -> int:
    with _prepared(scene) as folder:
        return act(scene, folder).calls


def act(scene: Scene, folder: Path, fault: Fault | None = None) -> Ended:
    return run(lambda: scene.act(folder), fault)


def recover(scene: Scene, folder: Path, fault: Fault | None = None) -> Ended:
    return run(lambda: scene.recover(folder), fault)


def kills(row: Row, every: int = 1) -> None:
    """Kill before and after each call; then recover."""
    for scene in SCENES:
        for point in range(0, _points(scene), every):
            for kind in ("kill before", "kill after"):
                if row.tried(case := f"{scene.name}, {kind} call {point}"):
                    continue
                with _prepared(scene) as folder:
                    act(scene, folder, Fault(kind, point))
                    again = recover(scene, folder)
                    row.add(Finding(case, _found(scene, folder, again.output)))


def kills_during_recovery(row: Row, every: int = 1) -> None:
    """Kill at a call, kill the recovery at a call, recover."""
    steps = max(1, round(every**0.5))
    for scene in SCENES:
        total = _points(scene)
        for first in range(0, total, steps):
            for second in range(0, total - first + 4, 2 * steps):
                if row.tried(case := f"{scene.name}, calls {first} and {second}"):
                    continue
                with _prepared(scene) as folder:
                    act(scene, folder, Fault("kill after", first))
                    recover(scene, folder, Fault("kill before", second))
                    again = recover(scene, folder)
                    row.add(Finding(case, _found(scene, folder, again.output)))


def disk_faults(row: Row, every: int = 1) -> None:
    """A disk that fails from a call on, or accepts only a part; then it works again."""
    for scene in SCENES:
        for point in range(0, _points(scene), every):
            for kind in (*ERRORS, "short"):
                if row.tried(case := f"{scene.name}, {kind} at call {point}"):
                    continue
                with _prepared(scene) as folder:
                    ended = act(scene, folder, Fault(kind, point))
                    said = complaints(scene, folder, ended, kind in ERRORS)
                    again = recover(scene, folder)
                    row.add(Finding(case, said + _found(scene, folder, again.output)))


def _found(scene: Scene, folder: Path, recovery: str) -> list[str]:
    found = ["a traceback while recovering"] if "Traceback (most recent" in recovery else []
    return found + scene.check(folder)
