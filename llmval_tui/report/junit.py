"""The last verdicts as JUnit XML: one test case for each item, for CI systems.

The format has no authority; this is the common part of what Jenkins and GitLab read
(https://github.com/testmoapp/junitxml). `failure` is a fail, `error` an invalid or inconclusive run, `skipped` an item
without a verdict.
"""

from collections.abc import Sequence
from xml.etree import ElementTree

from llmval_tui.actions.step_state import StepStatus
from llmval_tui.report.facts import ReportFacts, RunFacts
from llmval_tui.report.pages import markup
from llmval_tui.report.run_list import seconds_between
from llmval_tui.runs.records import Gate, Outcome

MARKER = "<!-- llmval report -->"
_NOT_IN_XML = dict.fromkeys((0xFFFE, 0xFFFF))  # besides the control characters, which `clean` removes


def clean(text: object) -> str:
    """Any value as one line of XML text; ElementTree escapes it."""
    return markup.clean(text).translate(_NOT_IN_XML)


def junit(facts: ReportFacts) -> str:
    """The document. The order is that of the checklist, in which an item without a run in this report is a skipped
    test; runs of other lists, and of items that no longer exist, come last.
    """
    suites: dict[str, list[ElementTree.Element]] = {}
    left = list(facts.runs)
    for item in facts.steps:
        mine = [run for run in left if run.intent.step.checklist not in facts.other_lists]
        own = [run for run in mine if _step_of(run, facts) == item.step.key]
        left = [run for run in left if run not in own]
        cases = [_case(run, item.step.section) for run in own] or [_skipped(item)]
        suites.setdefault(item.step.section, []).extend(cases)
    for run in left:
        # Two lists may have a section, and items, of the same name.
        ref = run.intent.step
        name = f"{ref.checklist}: {ref.section}" if ref.checklist in facts.other_lists else ref.section
        suites.setdefault(name, []).append(_case(run, name))
    name = facts.checklist.title if facts.checklist is not None else "llmval"
    root = ElementTree.Element(
        "testsuites", {"name": clean(name), **_counts([case for cases in suites.values() for case in cases])}
    )
    for section, cases in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", {"name": clean(section), **_counts(cases)})
        suite.extend(cases)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{MARKER}\n{text}\n'


def _step_of(run: RunFacts, facts: ReportFacts) -> tuple[str, str, int]:
    key = run.intent.step.key
    return facts.checklist.key_of(key) if facts.checklist is not None else key


def _skipped(item: StepStatus) -> ElementTree.Element:
    names = {"name": clean(f"{item.step.number} {item.step.text}"), "classname": clean(item.step.section)}
    case = ElementTree.Element("testcase", names | {"time": "0"})
    why = item.refused or "no run in this report"
    ElementTree.SubElement(case, "skipped", {"message": clean(f"{item.state.value}: {why}")})
    return case


def _case(run: RunFacts, suite: str) -> ElementTree.Element:
    ref = run.intent.step
    length = seconds_between(run.status.started_utc, run.status.ended_utc)
    case = ElementTree.Element(
        "testcase",
        {
            "name": clean(f"{ref.number} {ref.text}"),
            "classname": clean(suite),
            **({} if length is None else {"time": f"{length:.3f}"}),
        },
    )
    properties = ElementTree.SubElement(case, "properties")
    facts = {"run_id": run.id, "host": run.intent.host.get("name"), "created_utc": run.intent.created_utc}
    facts |= {"preset": run.intent.preset} if run.intent.preset else {}
    for name, value in facts.items():
        if value is not None:
            ElementTree.SubElement(properties, "property", {"name": name, "value": clean(value)})
    for line in run.intent.deviations:
        ElementTree.SubElement(properties, "property", {"name": "deviation", "value": clean(line)})
    if run.verdict is None:
        ElementTree.SubElement(case, "skipped", {"message": clean(run.outcome)})
    elif run.verdict.outcome is not Outcome.PASS:
        tag = "failure" if run.verdict.outcome is Outcome.FAIL else "error"
        names = {"type": run.verdict.outcome.value, "message": clean(run.verdict.summary)}
        ElementTree.SubElement(case, tag, names).text = _gates(run.verdict.gates)
    if run.verdict is not None:
        figures = [
            f"{name} {'null' if value is None else f'{value:.6g}'}" for name, value in run.verdict.metrics.items()
        ]
        ElementTree.SubElement(case, "system-out").text = "\n".join(map(clean, [run.verdict.summary, *figures]))
    return case


def _gates(gates: Sequence[Gate]) -> str:
    wrong = [gate for gate in gates if gate.outcome is not Outcome.PASS]
    lines = [
        f"{gate.name}: {gate.outcome.value}. Measured {gate.measured}; required {gate.bound}. {gate.reason}".strip()
        for gate in wrong
    ]
    return "\n".join(map(clean, lines))


def _counts(cases: Sequence[ElementTree.Element]) -> dict[str, str]:
    def with_child(tag: str) -> str:
        return str(sum(case.find(tag) is not None for case in cases))

    return {
        "tests": str(len(cases)),
        "failures": with_child("failure"),
        "errors": with_child("error"),
        "skipped": with_child("skipped"),
    }
