"""Paths in the output folder of a study, which is also the bundle.

`private/` is packed only with consent: compile traces contain model code.
"""

from dataclasses import dataclass
from pathlib import Path

ARCHIVE = "bundle.tar.gz"
MANIFEST = "manifest.json"
PRIVATE = "private"
PARTIAL = "PARTIAL.txt"
SCRIPT = Path(__file__).resolve().parents[3] / "torch_compile_repro.py"  # starts a study, a rank or the watchdog


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one study."""

    root: Path

    @property
    def run(self) -> Path:
        """The settings, written before anything starts and never changed."""
        return self.root / "run.json"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def verdict(self) -> Path:
        """The verdict of the newest stall."""
        return self.root / "verdict.json"

    @property
    def ending(self) -> Path:
        """Why the watchdog ended the run."""
        return self.root / "ending.json"

    @property
    def exit_codes(self) -> Path:
        return self.root / "exit_codes.json"

    @property
    def partial(self) -> Path:
        """A note that the bundle is partial. It exists until the archive of the finished study is written."""
        return self.root / PARTIAL

    @property
    def archive(self) -> Path:
        return self.root / ARCHIVE

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
    def agent(self) -> Path:
        """The process of torchrun's agent, if the runner started it."""
        return self.watch / "agent.json"

    @property
    def torchrun_token(self) -> Path:
        """Identifies the operator's torchrun that this folder was prepared for."""
        return self.watch / "torchrun.token"

    @property
    def stalls(self) -> Path:
        return self.watch / "stalls.json"

    @property
    def dump_request(self) -> Path:
        """Tells the ranks to dump their flight recorders, which only they can do."""
        return self.watch / "dump.request"

    def evidence(self, stall: int) -> Path:
        return self.root / f"evidence.stall{stall}.json"

    def beat(self, rank: int) -> Path:
        return self.watch / f"rank{rank}.heartbeat.json"

    def figures(self, rank: int) -> Path:
        return self.watch / f"rank{rank}.figures.json"

    def error(self, rank: int) -> Path:
        return self.watch / f"rank{rank}.error.json"

    def flight_json(self, rank: int) -> Path:
        return self.flight / f"rank{rank}.json"

    def flight_pickle(self, rank: int) -> Path:
        """The name that PyTorch's `torchfrtrace` expects."""
        return self.flight / "pickle" / f"rank_{rank}"

    def faults(self, rank: int) -> Path:
        return self.stacks / f"rank{rank}.faulthandler.txt"

    def trace(self, rank: int) -> Path:
        return self.private / "trace" / f"rank{rank}"

    def make(self) -> None:
        for folder in (self.logs, self.stacks, self.flight, self.watch, self.private):
            folder.mkdir(parents=True, exist_ok=True)
