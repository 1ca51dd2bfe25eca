"""The first screen of a report: host, verdict, what did not pass or was not as written, the figures that matter."""

from collections.abc import Sequence

from llmval_tui import __version__
from llmval_tui.actions.step_state import StepState, tick_counts
from llmval_tui.report.blocks import Badge, Block, Cell, Heading, Judgement, Link, Paragraph, Table, Trend
from llmval_tui.report.facts import ReportFacts, RunFacts, gpu_inventory_of, gpu_names
from llmval_tui.runs.records import SEVERITY, Outcome

MOST_NUMBERS = 12
MOST_GATES = 3  # gates of a run that did not pass; its own section has all


def badge_of(run: RunFacts) -> Badge:
    return Badge(run.outcome, run.verdict.outcome.value if run.verdict else "open")


def anchor_of(run: RunFacts) -> str:
    return f"run-{run.id}"


def title_of(facts: ReportFacts) -> str:
    """The title of the report, with its hosts."""
    hosts = list(dict.fromkeys(str(run.intent.host.get("name") or "unnamed host") for run in facts.runs))
    return f"Validation of {', '.join(hosts)}" if hosts else "Validation report"


def first_screen(facts: ReportFacts) -> list[Block]:
    """Everything that a reader in a hurry needs."""
    blocks: list[Block] = [Heading(1, title_of(facts)), _verdict(facts), Paragraph(_origin(facts))]
    blocks += _not_passed(facts.runs)
    blocks += _not_as_written(facts)
    blocks += _figures(facts.runs)
    return blocks


def _verdict(facts: ReportFacts) -> Judgement:
    """The worst verdict of all runs, how many runs have which, and how many items are ticked."""
    counts: dict[str, int] = {}
    for run in facts.runs:
        counts[run.outcome] = counts.get(run.outcome, 0) + 1
    counted = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    text = f"{len(facts.runs)} {'run' if len(facts.runs) == 1 else 'runs'}: {counted or 'none'}."
    if facts.checklist is not None:
        text += f" {tick_counts(facts.steps)}{_without_run(facts)}"
        for name, count in facts.other_lists.items():
            runs = "1 run is" if count == 1 else f"{count} runs are"
            text += f" {runs} of another list, {name}; its items are not counted: --checklist {name} counts them."
    outcomes = {run.verdict.outcome if run.verdict else None for run in facts.runs}
    found = next((outcome for outcome in SEVERITY[:-1] if outcome in outcomes), None)
    if found is not None:
        return Judgement(Badge(found.value, found.value), text, first=True)
    if None in outcomes or not outcomes:
        return Judgement(Badge("not judged", "open"), text, first=True)
    left = sum(not item.step.checked and item.state is not StepState.PASSED for item in facts.steps)
    if left:
        badge = Badge(f"pass so far, {left} {'item is' if left == 1 else 'items are'} open", "open")
        return Judgement(badge, text, first=True)
    return Judgement(Badge(Outcome.PASS.value, Outcome.PASS.value), text, first=True)


def _origin(facts: ReportFacts) -> str:
    parts = [f"Made {facts.made_utc} by llmval {__version__} from {', '.join(facts.origins)}."]
    if facts.runs:
        newest = max(facts.runs, key=lambda run: run.intent.order)
        driver = gpu_inventory_of(newest.intent.host).get("driver_version")
        node = [f"GPUs: {gpu_names(newest)}", f"driver {driver}" if driver else "no NVIDIA driver"]
        node += [f"{name} {newest.intent.versions[name]}" for name in ("torch",) if name in newest.intent.versions]
        parts.append(f"{', '.join(node)}.")
    return " ".join(parts)


def item_of(run: RunFacts, runs: Sequence[RunFacts], *, text: bool = False) -> str:
    """The number of a run's item; of a report's `runs` with several lists or hosts, also whose it is."""
    ref, host = run.intent.step, run.intent.host.get("name")
    shown = f"{ref.number} {ref.text}" if text else ref.number
    if ref.checklist and len({one.intent.step.checklist for one in runs} - {""}) > 1:
        shown += f" of {ref.checklist}"
    if len({one.intent.host.get("name") for one in runs}) > 1:
        shown += f" on {host or 'unnamed host'}"
    return shown


def _item(run: RunFacts, runs: Sequence[RunFacts], *, text: bool = False) -> Link:
    return Link(item_of(run, runs, text=text), anchor_of(run))


def _not_passed(runs: Sequence[RunFacts]) -> list[Block]:
    rows: list[list[Cell]] = []
    for run in runs:
        wrong = [gate for gate in run.verdict.gates if gate.outcome is not Outcome.PASS] if run.verdict else []
        item = _item(run, runs, text=True)
        for gate in wrong[:MOST_GATES]:
            reason = f" ({gate.reason})" if gate.reason else ""
            rows.append(
                [item, Badge(gate.outcome.value, gate.outcome.value), gate.name, gate.measured, gate.bound + reason]
            )
        if len(wrong) > MOST_GATES:
            rows.append([item, "", f"{len(wrong) - MOST_GATES} more gates", "", ""])
        if run.verdict is None:
            rows.append([item, badge_of(run), "–", "–", "–"])
    return [Table("What did not pass", ("item", "outcome", "gate", "measured", "required"), rows)] if rows else []


def _not_as_written(facts: ReportFacts) -> list[Block]:
    """Deviations, damaged records and evidence that changed; or one sentence that all is well."""
    blocks: list[Block] = [Paragraph(sentence, caution=True) for sentence in facts.unreadable]
    rows: list[list[Cell]] = []
    for run in facts.runs:
        deviations = list(run.intent.deviations)
        if run.intent.preset and not any(run.intent.preset in line for line in deviations):
            deviations.insert(0, f"preset {run.intent.preset}")
        rows += [[_item(run, facts.runs), line] for line in deviations]
    if rows:
        blocks.append(Table("What was not as written", ("item", "deviation"), rows))
    happened = {
        "changed": "was changed since it was judged",
        "missing": "is missing",
        "unreadable": "cannot be read by you",
    }
    for state, words in happened.items():
        paths = [one.path for run in facts.runs for one in run.artifacts if one.sha256 and one.state == state]
        if paths:
            lines = "; ".join(f"{path} {words}" for path in dict.fromkeys(paths))
            text = (
                f"Evidence is not intact: {lines}. The verdicts are about the files as they were when they were judged."
            )
            blocks.append(Paragraph(text, caution=True))
    if any(one.state == "masked" for run in facts.runs for one in run.artifacts):
        blocks.append(Paragraph("Secrets were overwritten in some of the evidence when it was exported."))
    if facts.runs and not blocks:
        blocks.append(Paragraph("Every run was as its item is written, and all evidence is intact."))
    return blocks


def _without_run(facts: ReportFacts) -> str:
    """The open items that nothing is known of: a reader must not take them for passed."""
    numbers = [item.step.number for item in facts.steps if item.run is None and not item.step.checked]
    more = f" and {len(numbers) - MOST_NUMBERS} more" if len(numbers) > MOST_NUMBERS else ""
    return f" Never run: {', '.join(numbers[:MOST_NUMBERS])}{more}." if numbers else ""


def _figures(runs: Sequence[RunFacts]) -> list[Block]:
    rows: list[list[Cell]] = []
    for run in runs:
        for one in run.figures:
            values = [*one.trend.earlier, *([] if one.value is None else [one.value])]
            rows.append(
                [
                    _item(run, runs),
                    one.label,
                    one.shown,
                    one.bound_shown,
                    Trend(one.trend.sentence, values),
                ]
            )
    if not rows:
        return []
    columns = ("item", "figure", "value", "bound", "trend")
    return [Table("Figures, with their bounds and the trend over earlier runs", columns, rows, numbers=(2,))]
