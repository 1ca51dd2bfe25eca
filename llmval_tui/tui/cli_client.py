"""Runs `llmval …` commands for the dashboard, the same that a person would type, and returns their results.

Each command runs in a session of its own with its output in a file, so that it survives the end of the dashboard and
of the terminal.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from llmval_tui.foundation.text import clean_line
from llmval_tui.tui.settings import LaunchSettings

TIMEOUT_S = 90.0  # starting a plan takes a second or two, the inventory of a slow node longer


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command: whether it succeeded, and its message."""

    ok: bool
    message: str


class CommandClient(Protocol):
    """The commands that change something. Each call blocks until the command ends; never call it in the UI thread."""

    def run(
        self,
        steps: list[str],
        *,
        everything: bool,
        tick: bool,
        preset: str | None,
        adapt: bool,
        confirmed: Sequence[str] = (),
        skip_unreviewed: bool = False,
    ) -> CommandResult: ...

    def answer_question(self, code: str, decision: str) -> CommandResult: ...

    def give_value(self, name: str, value: str) -> CommandResult: ...

    def cancel(self, run_id: str | None) -> CommandResult: ...

    def tick(self, step: str, note: str) -> CommandResult: ...

    def accept(self, run_id: str, link: str | None) -> CommandResult: ...

    def settle(self) -> CommandResult: ...


def argv_for_run(
    settings: LaunchSettings,
    steps: list[str],
    *,
    everything: bool,
    tick: bool,
    preset: str | None,
    adapt: bool,
    confirmed: Sequence[str] = (),
    skip_unreviewed: bool = False,
) -> list[str]:
    """The arguments after `llmval` that run these steps; dialogs show them, too."""
    words = ["run", *(["--all"] if everything else steps), *_workspace_arguments(settings)]
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
    for code in confirmed:
        words += ["--confirm", code]
    if skip_unreviewed:
        words.append("--skip-unreviewed")
    return words


def _workspace_arguments(settings: LaunchSettings) -> list[str]:
    return ["--workspace", str(settings.workspace), "--checklist", str(settings.checklist)]


class CliClient:
    """The real commands, each in a child process."""

    def __init__(self, settings: LaunchSettings) -> None:
        self._settings = settings

    def run(
        self,
        steps: list[str],
        *,
        everything: bool,
        tick: bool,
        preset: str | None,
        adapt: bool,
        confirmed: Sequence[str] = (),
        skip_unreviewed: bool = False,
    ) -> CommandResult:
        """Start a plan over these steps; it runs detached."""
        words = argv_for_run(
            self._settings,
            steps,
            everything=everything,
            tick=tick,
            preset=preset,
            adapt=adapt,
            confirmed=confirmed,
            skip_unreviewed=skip_unreviewed,
        )
        return self._call([*words, "--detach"])

    def answer_question(self, code: str, decision: str) -> CommandResult:
        """Keep an answer beside the list."""
        return self._call(["review", f"--answer={code}={decision}", *self._review_arguments()])

    def give_value(self, name: str, value: str) -> CommandResult:
        """Keep the value of a placeholder beside the list."""
        return self._call(["review", f"--set={name}={value}", *self._review_arguments()])

    def _review_arguments(self) -> list[str]:
        words = _workspace_arguments(self._settings)
        words += ["--gpus", ",".join(str(gpu) for gpu in self._settings.gpus)] if self._settings.gpus else []
        return words + (["--runner-python", self._settings.runner_python] if self._settings.runner_python else [])

    def cancel(self, run_id: str | None) -> CommandResult:
        """Cancel one run, or with None the active plan and its run."""
        return self._call(["cancel", *([run_id] if run_id else []), *_workspace_arguments(self._settings)])

    def tick(self, step: str, note: str) -> CommandResult:
        """Tick a step by hand."""
        return self._call(["tick", step, f"--note={note}", *_workspace_arguments(self._settings)])

    def accept(self, run_id: str, link: str | None) -> CommandResult:
        """Answer the question of a verdict."""
        return self._call(
            ["accept", run_id, *([f"--link={link}"] if link else []), *_workspace_arguments(self._settings)]
        )

    def settle(self) -> CommandResult:
        """Judge the runs that have ended without a plan to judge them; `status` does that."""
        return self._call(["status", *_workspace_arguments(self._settings)])

    def _call(self, words: list[str]) -> CommandResult:
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
    """The result in a command's output; a failure without a message gets the last line of its error output."""
    try:
        value: Any = orjson.loads(out)
    except orjson.JSONDecodeError:
        value = None
    message = value.get("message", "") if isinstance(value, dict) else ""
    if not message and code:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:]
        message = f"llmval {name} ended with exit code {code}: {last[0] if last else 'it printed nothing'}"
    ok = value.get("ok", True) if isinstance(value, dict) else False
    return CommandResult(code == 0 and bool(ok), clean_line(str(message).replace("\n", " ")))
