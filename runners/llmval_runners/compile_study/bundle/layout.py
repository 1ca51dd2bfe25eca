"""Where everything lies in the output folder.

The folder is the bundle. `private/` is the one part that is never packed without consent: compile traces hold model
code.
"""

from dataclasses import dataclass
from pathlib import Path

ARCHIVE = "bundle.tar.gz"
MANIFEST = "manifest.json"
PRIVATE = "private"
PARTIAL = "PARTIAL.txt"
SCRIPT = Path(__file__).resolve().parents[3] / "torch_compile_repro.py"  # what starts a study, a rank or the watchdog


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one study."""

    root: Path

    @property
    def run(self) -> Path:
        """What was asked, written before anything starts and never changed."""
        return self.root / "run.json"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def verdict(self) -> Path:
        """Newest stall, classified."""
        return self.root / "verdict.json"

    @property
    def ending(self) -> Path:
        """Why the watchdog ended the run."""
        return self.root / "ending.json"

    @property
    def exit_codes(self) -> Path:
        return self.root / "exit_codes.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def stacks(self) -> Path:
        return self.root / "stacks"

    @property
    def flight(self) -> Path:
        return self.root / "flight_recorder"

    @property
    def watch(self) -> Path:
        return self.root / "watch"

    @property
    def private(self) -> Path:
        return self.root / PRIVATE

    @property
    def partial(self) -> Path:
        """There from the start until the archive of the finished study is; says so in words."""
        return self.root / PARTIAL

    @property
    def archive(self) -> Path:
        return self.root / ARCHIVE

    def beat(self, rank: int) -> Path:
        return self.watch / f"rank{rank}.heartbeat.json"

    def figures(self, rank: int) -> Path:
        return self.watch / f"rank{rank}.figures.json"

    def request(self) -> Path:
        """While it exists, ranks dump what only they can: their flight recorder."""
        return self.watch / "dump.request"

    def flight_json(self, rank: int) -> Path:
        return self.flight / f"rank{rank}.json"

    def faults(self, rank: int) -> Path:
        return self.stacks / f"rank{rank}.faulthandler.txt"

    def trace(self, rank: int) -> Path:
        return self.private / "trace" / f"rank{rank}"

    def make(self) -> None:
        for folder in (self.logs, self.stacks, self.flight, self.watch, self.private):
            folder.mkdir(parents=True, exist_ok=True)
