"""What the dashboard does: it starts the same commands that a person would type, and passes on what they answer.

Each command runs in a session of its own with its output in a file, so that neither the dashboard's end nor a closed
terminal reaches it.
"""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from llmval_tui.foundation.text import clean_line
from llmval_tui.tui.settings import LaunchSettings

TIMEOUT_S = 90.0  # starting a plan takes a second or two, taking stock of a slow node longer


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command said: whether it did it, and its sentence."""

    ok: bool
    message: str


class CommandClient(Protocol):
    """Everything that changes something. Each call blocks until the command has answered: never on the UI's thread."""

    def run(
        self, steps: list[str], *, everything: bool, tick: bool, preset: str | None, adapt: bool
    ) -> CommandResult: ...

    def cancel(self, run_id: str | None) -> CommandResult: ...

    def tick(self, step: str, note: str) -> CommandResult: ...

    def accept(self, run_id: str, link: str | None) -> CommandResult: ...

    def settle(self) -> CommandResult: ...


def argv_for_run(
    settings: LaunchSettings, steps: list[str], *, everything: bool, tick: bool, preset: str | None, adapt: bool
) -> list[str]:
    """The arguments, after `llmval`, that do these steps; also what the dialog and `y` show."""
    words = ["run", *(["--all"] if everything else steps), *_place(settings)]
    if preset:
        words += ["--preset", preset]
    if adapt:
        words.append("--adapt")
    if settings.gpus:
        words += ["--gpus", ",".join(str(gpu) for gpu in settings.gpus)]
    if settings.runner_python:
        words += ["--runner-python", settings.runner_python]
    if not tick:
        words.append("--no-tick")
    return words


def _place(settings: LaunchSettings) -> list[str]:
    return ["--workspace", str(settings.workspace), "--checklist", str(settings.checklist)]


class CliClient:
    """The commands for real."""

    def __init__(self, settings: LaunchSettings) -> None:
        self._settings = settings

    def run(self, steps: list[str], *, everything: bool, tick: bool, preset: str | None, adapt: bool) -> CommandResult:
        """Start a plan over these steps; it goes on by itself."""
        words = argv_for_run(self._settings, steps, everything=everything, tick=tick, preset=preset, adapt=adapt)
        return self._ask([*words, "--detach"])

    def cancel(self, run_id: str | None) -> CommandResult:
        """End one run, or with None the plan at work and its run."""
        return self._ask(["cancel", *([run_id] if run_id else []), *_place(self._settings)])

    def tick(self, step: str, note: str) -> CommandResult:
        """Tick a step on the operator's word."""
        return self._ask(["tick", step, f"--note={note}", *_place(self._settings)])

    def accept(self, run_id: str, link: str | None) -> CommandResult:
        """CommandResult the question of a verdict."""
        return self._ask(["accept", run_id, *([f"--link={link}"] if link else []), *_place(self._settings)])

    def settle(self) -> CommandResult:
        """Have runs judged that ended while nobody looked; `status` does that."""
        return self._ask(["status", *_place(self._settings)])

    def _ask(self, words: list[str]) -> CommandResult:
        argv = [sys.executable, "-m", "llmval_tui", *words, "--json"]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    cwd=self._settings.workspace,
                    env=dict(self._settings.environment),
                )
                code = child.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                return CommandResult(
                    False, f"llmval {words[0]} has not answered for {TIMEOUT_S:.0f} s; it goes on by itself."
                )
            except OSError as error:
                return CommandResult(False, f"llmval {words[0]} could not be started: {error}")
            out.seek(0)
            err.seek(0)
            return parse_result(words[0], code, out.read(), err.read())


def parse_result(name: str, code: int, out: bytes, err: bytes) -> CommandResult:
    """The answer in what a command printed; one that printed none is reported with the end of its error output."""
    try:
        value: Any = orjson.loads(out)
    except orjson.JSONDecodeError:
        value = None
    message = value.get("message", "") if isinstance(value, dict) else ""
    if not message and code:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:]
        message = f"llmval {name} ended with exit code {code}: {last[0] if last else 'it said nothing'}"
    said_ok = value.get("ok", True) if isinstance(value, dict) else False
    return CommandResult(code == 0 and bool(said_ok), clean_line(str(message).replace("\n", " ")))
