"""What the dashboard is started with; decided by the command line, never changed afterwards."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Keys = tuple[tuple[str, str], ...]  # of one action: each key as Textual names it, and as people write it


@dataclass(frozen=True)
class LaunchSettings:
    """One start of the dashboard."""

    workspace: Path
    checklist: Path
    preset: str | None = None  # "smoke", or None for the item as written
    adapt: bool = False  # use fewer GPUs than the item says where the node has fewer
    gpus: tuple[int, ...] | None = None
    runner_python: str | None = None
    readonly: bool = False
    theme: str | None = None  # None: `dark`, or `mono` where NO_COLOR is set
    interval: float = 1.0  # seconds between two looks at files and hardware
    ascii: bool = False
    mouse: bool = True
    charts: str = "blocks"  # or braille, ascii
    bell: bool = False  # ring the terminal's bell when a run has been judged
    notify: bool = False  # and send a desktop notification through the terminal (OSC 9)
    keys: Mapping[str, Keys] = field(default_factory=dict)  # ids of `keys.py` with other keys than the usual ones
    demo: bool = False
    replay: Path | None = None  # a run folder, or a telemetry.jsonl, played instead of showing what is
    # What commands started from here inherit; taken before Textual sees the process's environment.
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
