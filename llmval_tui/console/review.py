"""`review`: answers the questions that items ask before their first run. `run` uses it, too."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmval_tui.actions.api import Options, Proposal
from llmval_tui.actions.registry import propose
from llmval_tui.actions.review.answers import answer_to
from llmval_tui.actions.review.describe import describe
from llmval_tui.actions.review.model import Answer, Decision, Question
from llmval_tui.actions.review.record import record_answers, write_into_list
from llmval_tui.actions.review.settings import settings_of, settings_path
from llmval_tui.checklist.model import Checklist, Step, load
from llmval_tui.console.options import (
    apply_config,
    checklist_path,
    plan_options,
    print_object,
    print_result,
    refuse_readonly,
    suggested,
    values_of_arguments,
    workspace_of,
)
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.text import clean_line, utc_iso
from llmval_tui.plans.client import context_for, gpu_count_of
from llmval_tui.runs.inventory import gpu_inventory, user_name
from llmval_tui.terminal.format import wrap

KEYS = {"y": Decision.RUN, "n": Decision.MANUAL, "s": Decision.SKIP}
_LABEL_WIDTH = 12

Opened = tuple[Step, Proposal, Question]


class Reviewer:
    """The open questions of some steps, and what is answered to them."""

    def __init__(self, options: argparse.Namespace, choices: Options) -> None:
        self.path = checklist_path(options)
        self.workspace = workspace_of(options)
        self.choices = choices
        self.in_list = bool(getattr(options, "write", False))
        self._gpus = gpu_count_of(gpu_inventory())

    def checklist(self) -> Checklist:
        return load(self.path)

    def proposal(self, step: Step) -> Proposal:
        """What the step would do now.

        Raises:
            Refused: the file beside the list is invalid.
        """
        checklist = self.checklist()
        found = checklist.find(step.key)
        if found is None:
            raise Refused(f"step {step.number} is no longer in {self.path.name}: review it again.")
        return propose(context_for(checklist, found, self.workspace, self.choices, self._gpus))

    def open_questions(self, steps: Sequence[Step]) -> list[Opened]:
        """The steps with an open question."""
        checklist, settings = self.checklist(), settings_of(self.path, self.workspace)
        settings.check_bounds(checklist.steps)
        found = []
        for step in steps:
            now = checklist.find(step.key) or step
            proposal = propose(context_for(checklist, now, self.workspace, self.choices, self._gpus, settings=settings))
            if proposal.open_question is not None:
                found.append((now, proposal, proposal.open_question))
        return found

    def give_values(self, values: dict[str, str]) -> None:
        """Keep values in the file beside the list, and use them."""
        record_answers(self.path, self.workspace, [], values)
        self.choices = replace(self.choices, values={**self.choices.values, **values})

    def answer(self, opened: Opened, decision: Decision) -> None:
        """Keep an answer; one to a question that is asked each time is valid for the next plan alone."""
        step, proposal, question = opened
        if decision is Decision.RUN and question.each_time:
            self.choices = replace(self.choices, confirmed=(*self.choices.confirmed, question.code))
            return
        answer = answer_to(
            step, proposal, decision, self.workspace, by=user_name(), when=utc_iso(), in_list=self.in_list
        )
        self._keep(step, answer)

    def _keep(self, step: Step, answer: Answer) -> None:
        if answer.in_list:
            write_into_list(self.path, step, answer)
        else:
            record_answers(self.path, self.workspace, [answer])


def review(options: argparse.Namespace) -> int:
    """Show and answer the open questions of a list."""
    apply_config(options)
    reviewer = Reviewer(options, plan_options(options))
    if options.set or options.answer:
        refuse_readonly(options)
        return _answer_from_arguments(options, reviewer)
    checklist = reviewer.checklist()
    wanted = [checklist.step(name) for name in options.again]
    steps = wanted or [step for step in checklist.steps if not step.checked]
    if wanted:
        refuse_readonly(options)
        _forget(reviewer, wanted)
    opened = reviewer.open_questions(steps)
    if not opened:
        print_result(options, f"{reviewer.path.name} has no open question.")
        return ExitCode.PASSED
    if options.json:
        print_object("questions", questions=[as_json(one, reviewer) for one in opened])
        return ExitCode.REFUSED
    if options.readonly or not on_terminal():
        print_questions(opened, reviewer)
        print(review_command(reviewer, opened))
        return ExitCode.REFUSED
    left = walk(reviewer, steps, for_plan=False)
    print(f"{len(left)} left open." if left else "Every question is answered.")
    return ExitCode.REFUSED if left else ExitCode.PASSED


def _answer_from_arguments(options: argparse.Namespace, reviewer: Reviewer) -> int:
    if options.set:
        reviewer.give_values(values_of_arguments(options.set))
    opened = reviewer.open_questions(reviewer.checklist().steps)
    for word in options.answer:
        code, _, said = word.partition("=")
        if said not in set(Decision):
            raise Refused(f"--answer {word} is not understood: write CODE=run, CODE=manual or CODE=skip.")
        found = next((one for one in opened if one[2].code and one[2].code == code), None)
        if found is None:
            raise Refused(
                f"there is no open question with the code {code}: {suggested(options, 'review --json')} lists them."
            )
        if not found[2].can_run and said == Decision.RUN:
            raise Refused(f"{found[0].number} has nothing that can be started: answer manual or skip.")
        if found[2].each_time and said == Decision.RUN:
            confirm = suggested(options, f"run {found[0].number} --confirm {code}")
            raise Refused(f"{found[0].number} asks each time: confirm it with {confirm}.")
        reviewer.answer(found, Decision(said))
    print_result(options, f"kept in {reviewer.path.name if reviewer.in_list else settings_path(reviewer.path).name}.")
    return ExitCode.PASSED


def _forget(reviewer: Reviewer, steps: Sequence[Step]) -> None:
    from llmval_tui.actions.review.record import forget_answers

    forget_answers(reviewer.path, reviewer.workspace, steps)


def walk(reviewer: Reviewer, steps: Sequence[Step], *, for_plan: bool) -> list[Opened]:
    """Ask the open questions one after the other on the terminal; returns those that stay open.

    Args:
        for_plan: a plan starts afterwards, so a question that is asked each time can be answered.
    """
    done: set[tuple[object, ...]] = set()
    while True:
        left = [one for one in reviewer.open_questions(steps) if (one[0].key, one[2].code) not in done]
        if not left:
            break
        current = left[0]
        if current[2].missing:
            if not _ask_values(reviewer, current):
                break
            continue
        said = _ask(reviewer, current, len(left), for_plan=for_plan)
        if said == "q":
            break
        if said == "e":
            _edit_values(reviewer, current)
        elif said in KEYS:
            reviewer.answer(current, KEYS[said])
            done.add((current[0].key, current[2].code))
        else:
            done.add((current[0].key, current[2].code))  # left open
    return reviewer.open_questions(steps)


def _ask(reviewer: Reviewer, opened: Opened, count: int, *, for_plan: bool) -> str:
    step, proposal, question = opened
    _clear()
    print("\n".join(_screen(opened, reviewer, f"{count} open")))
    offered = {"y": "run", "n": "by hand", "s": "skip"}
    if not question.can_run or (question.each_time and not for_plan):
        offered = {"n": "by hand", "s": "skip", "l": "leave it open"}
    if proposal.reading is not None and proposal.reading.placeholders:
        offered["e"] = "change a value"
    offered["q"] = "quit"
    prompt = "  ".join(f"{key} {label}" for key, label in offered.items())
    while True:
        said = _input(f"\n{prompt}\n{step.number}? ")
        if said is None:
            return "q"
        if said.strip().lower() in offered:
            return said.strip().lower()


def _ask_values(reviewer: Reviewer, opened: Opened) -> bool:
    """Ask for the missing values of an item; False if the operator quits."""
    question = opened[2]
    _clear()
    print("\n".join(_screen(opened, reviewer, "a value is missing")))
    values = {}
    for name in question.missing:
        value = _ask_value(name, os.environ.get(name))
        if value is None:
            return False
        values[name] = value
    reviewer.give_values(values)
    return True


def _edit_values(reviewer: Reviewer, opened: Opened) -> None:
    reading = opened[1].reading
    known = {**settings_of(reviewer.path, reviewer.workspace).values, **reviewer.choices.values}
    for name in reading.placeholders if reading else ():
        value = _ask_value(name, known.get(name))
        if value is not None:
            reviewer.give_values({name: value})


def _ask_value(name: str, present: str | None) -> str | None:
    """A value for a placeholder; None if the operator gives none."""
    hint = f" [{present}]" if present else ""
    while True:
        said = _input(f"value of {name}{hint} (q quits): ")
        if said is None or said.strip() == "q":
            return None
        value = said.strip() or present or ""
        if value and value.isprintable():
            return value
        print("Write one line of text.")


def print_questions(opened: Sequence[Opened], reviewer: Reviewer) -> None:
    """Print each question, what it is about, and the code that answers it without a terminal."""
    for one in opened:
        code = one[2].code  # "": only a value answers it
        print("\n".join(_screen(one, reviewer, f"code {code}" if code else "")), end="\n\n")


def review_command(reviewer: Reviewer, opened: Sequence[Opened]) -> str:
    """What to do about open questions, as a command that can be copied."""
    words = ["llmval", "review", str(reviewer.path), "--workspace", str(reviewer.workspace)]
    command = shlex.join(words)
    ways = ["--answer CODE=run for each code"] if any(question.code for _, _, question in opened) else []
    missing = dict.fromkeys(name for _, _, question in opened for name in question.missing)
    ways += [" ".join(f"--set {name}=VALUE" for name in missing)] if missing else []
    return f"Answer on a terminal: {command}; without one, give that command {' and '.join(ways)}"


def as_json(opened: Opened, reviewer: Reviewer) -> dict[str, Any]:
    """A question for programs."""
    step, proposal, question = opened
    return {
        "step": step.number,
        "section": step.section,
        "text": step.text,
        "question": question.text,
        "each_time": question.each_time,
        "can_run": question.can_run,
        "code": question.code or None,
        "missing": list(question.missing),
        "description": [{"label": label, "text": text} for label, text in describe(step, proposal, reviewer.workspace)],
    }


def on_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _screen(opened: Opened, reviewer: Reviewer, note: str) -> list[str]:
    step, proposal, _ = opened
    width = min(shutil.get_terminal_size().columns, 100)
    head = f"{step.number}  {step.section}"
    lines = [clean_line(f"{head}  ({note})" if note else head)]
    for label, text in describe(step, proposal, reviewer.workspace):
        pieces = wrap(clean_line(text), max(20, width - _LABEL_WIDTH - 2)) or [""]
        for index, piece in enumerate(pieces):
            lines.append(f"  {label if not index else '':<{_LABEL_WIDTH}}{piece}")
    return lines


def _clear() -> None:
    if os.environ.get("TERM") not in (None, "dumb"):
        sys.stdout.write("\x1b[H\x1b[2J")


def _input(prompt: str) -> str | None:
    """A line from the terminal; None at its end or on Ctrl-C."""
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt):
        print()
        return None
