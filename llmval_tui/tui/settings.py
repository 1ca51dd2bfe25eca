"""The settings of one start of the dashboard, from the command line and config.toml. They never change."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Keys = tuple[tuple[str, str], ...]  # the keys of one action: Textual's name, and the name that people write


@dataclass(frozen=True)
class LaunchSettings:
    """One start of the dashboard."""

    workspace: Path
    checklist: Path
    preset: str | None = None  # "smoke", or None for the item as written
    adapt: bool = False  # use fewer GPUs than the item says if the node has fewer
    gpus: tuple[int, ...] | None = None
    runner_python: str | None = None
    readonly: bool = False
    theme: str | None = None  # None: by the terminal, see `find_theme`
    interval: float = 1.0  # seconds between two snapshots of the files, and between two samples of the hardware
    ascii: bool = False
    mouse: bool = True
    charts: str = "braille"  # or blocks, ascii
    bell: bool = False  # ring the terminal's bell when a run has been judged
    notify: bool = False  # and send a desktop notification through the terminal (OSC 9)
    keys: Mapping[str, Keys] = field(default_factory=dict)  # changed keys by the ids of `keys.py`
    demo: bool = False
    replay: Path | None = None  # a run folder or a telemetry.jsonl to play instead of the live workspace
    # The environment of commands that the dashboard starts; copied before Textual changes the process's own.
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
