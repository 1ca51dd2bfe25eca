"""The criteria of a run: decided when it is proposed, recorded in `run.json`, and read from there by the judge."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from llmval_tui.actions.criteria.directives import stated_directives
from llmval_tui.actions.criteria.expect import SOURCES, parse_expect, stated_criteria
from llmval_tui.actions.criteria.measured import shown_bound
from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.units import number_of, unit_named
from llmval_tui.checklist.command import parse_command
from llmval_tui.foundation.decode import decode
from llmval_tui.foundation.paths import inside
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Artifact

if TYPE_CHECKING:
    from llmval_tui.actions.api import Context, Proposal
    from llmval_tui.runs.store import Run

PARAMETER = "criteria"  # in the params of a proposal and of a run's intent


def with_criteria(context: "Context", proposal: "Proposal") -> tuple["Proposal", tuple[Criterion, ...]]:
    """The proposal with its criteria and with the files that its item promises, and the criteria.

    Raises:
        Refused: an `expect=` or another key of the item's llmval comment, or a bound in the settings, is wrong.
    """
    step, reading, settings = context.step, context.reading, context.settings
    stated = list(stated_criteria(step))
    stated += [parse_expect(text, StatedBy.SETTINGS) for text in (settings.expects_of(step) if settings else ())]
    claims = reading.criteria if reading is not None and proposal.commands else ()
    criteria = chosen(claims, stated, own_judge=any(artifact.schema for artifact in proposal.artifacts))
    if not proposal.commands:
        return proposal, criteria
    promised = [*stated_directives(step).artifacts, *files_of(criteria)]
    artifacts = {artifact.path: artifact for artifact in proposal.artifacts}
    for written in promised:
        path = _path(written, context)
        if any(command.append and command.tee == path for command in proposal.commands):
            continue  # its evidence are the bytes that the run appends, not the whole file
        if not any(path == known or path.startswith(f"{known}/") for known in artifacts):
            artifacts[path] = Artifact(path)
    params = {**proposal.params, PARAMETER: as_params(criteria)}
    details = (*proposal.details, *(_detail(one) for one in criteria))
    summary = proposal.summary
    if criteria and summary.endswith("judges its exit code."):  # it was written without the criteria
        summary = summary.removesuffix(".") + " and what the item demands."
    evident = artifacts or any(command.append for command in proposal.commands)
    by_exit = all(one.source == "exit" for one in criteria)
    if not evident and by_exit and summary.endswith(("exit code.", "the item demands.", "; all must pass.")):
        # The judge needs something to hash.
        summary = summary.removesuffix(".") + "; without any output, the verdict is inconclusive."
    changed = replace(proposal, artifacts=tuple(artifacts.values()), params=params, details=details, summary=summary)
    return changed, criteria


def _detail(one: Criterion) -> str:
    """A line of the proposal: what is judged, or that it cannot be."""
    if one.unreadable:
        return f"cannot judge “{one.text}”, so the verdict is inconclusive at best"
    if one.stated_by is not StatedBy.WORDS:
        by = "the settings beside the list" if one.stated_by is StatedBy.SETTINGS else "expect="
        return clean_line(f"requires {one.text} ({by})")
    what = one.metric or one.selector or ("" if one.source == "output" else one.source)
    return clean_line(f"requires {what} {shown_bound(one)} (“{one.text}”)".replace("  ", " "))


def _path(written: str, context: "Context") -> str:
    """A path as an item writes it, relative to the workspace."""
    word = parse_command(f"file {written}", now=context.now, environment=context.environment).argv[-1]
    return str(inside(context.workspace, word).relative_to(context.workspace.resolve()))


def chosen(claims: Sequence[Criterion], stated: Sequence[Criterion], *, own_judge: bool) -> tuple[Criterion, ...]:
    """What is judged: everything that `expect=` states, and the claims of the words that it does not replace.

    - `expect="exit == 0"` alone replaces all claims: the author says that the exit code is enough.
    - An `expect` with the bound of a claim replaces that claim.
    - An `expect` that replaces no such claim is about the claims that cannot be read, and replaces those.
    - If one of llmval's runners is started (`own_judge`), its judge decides on the run, so claims that cannot be read
      do not count; claims with a number or a text still do.
    """
    if stated and all(one.source == "exit" for one in stated):
        return tuple(stated)
    readable = [claim for claim in claims if not claim.unreadable]
    kept = [claim for claim in readable if not any(_same_bound(one, claim) for one in stated)]
    others = [one for one in stated if not any(_same_bound(one, claim) for claim in readable)]
    unread = [] if own_judge or others else [claim for claim in claims if claim.unreadable]
    order = {id(claim): position for position, claim in enumerate(claims)}
    return (*stated, *sorted([*kept, *unread], key=lambda claim: order[id(claim)]))


def _same_bound(one: Criterion, claim: Criterion) -> bool:
    """Whether a stated criterion judges what a claim says."""
    if isinstance(claim.bound, float):
        bound = one.bound if isinstance(one.bound, float) else number_of(str(one.bound))
        if bound is None or one.comparison[:1] != claim.comparison[:1]:
            return False
        return abs(_scaled(bound, one.unit) - _scaled(claim.bound, claim.unit)) <= 1e-9 * abs(bound or 1.0)
    if claim.bound is None:
        return one.comparison == claim.comparison
    wanted = str(claim.bound).casefold()
    return any(wanted in str(part).replace("\\", "").casefold() for part in (one.bound, one.selector) if part)


def _scaled(value: float, unit: str | None) -> float:
    known = unit_named(unit) if unit else None
    return value * known.factor if known else value


def as_params(criteria: Sequence[Criterion]) -> list[dict[str, Any]]:
    """The criteria for `run.json`."""
    return [asdict(one) for one in criteria]


def frozen_criteria(run: "Run") -> list[Criterion]:
    """The criteria that were decided before the run started; [] for records of an older llmval."""
    return [decode(Criterion, item) for item in run.intent.params.get(PARAMETER, ())]


def demands_silence(run: "Run") -> bool:
    """Whether a run that prints nothing can meet a criterion: "prints nothing", "no errors"."""
    silent = ("empty", "not contains", "not matches")
    return any(one.comparison in silent and not one.unreadable for one in frozen_criteria(run))


def files_of(criteria: Sequence[Criterion]) -> list[str]:
    """The files that criteria read, relative to the workspace: the run must write them."""
    named = [one.source for one in criteria if one.stated_by is not StatedBy.WORDS]
    return [name for name in dict.fromkeys(named) if name not in SOURCES]
