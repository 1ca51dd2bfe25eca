"""The last verdicts as a textfile for the node exporter of Prometheus.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/; names: https://prometheus.io/docs/practices/naming/.
The run's id is only in `llmval_run_info`, so that a new run makes no new series of the others.
"""

from collections.abc import Iterator

from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from llmval_tui.report.facts import ReportFacts, RunFacts
from llmval_tui.report.pages.markup import clean
from llmval_tui.report.run_list import seconds_between
from llmval_tui.runs.records import Outcome
from llmval_tui.terminal.format import parse_utc

MARKER = "# llmval report"
_LABELS = ["host", "checklist", "item"]
NOT_JUDGED = "not_judged"


class _Verdicts(Collector):
    def __init__(self, facts: ReportFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        outcome = GaugeMetricFamily(
            "llmval_run_outcome",
            "Outcome of the newest run of an item: 1 for the one that holds.",
            labels=[*_LABELS, "outcome"],
        )
        judged = GaugeMetricFamily(
            "llmval_run_judged_timestamp_seconds", "When that run was judged, Unix time.", labels=_LABELS
        )
        length = GaugeMetricFamily("llmval_run_duration_seconds", "How long that run took.", labels=_LABELS)
        as_written = GaugeMetricFamily(
            "llmval_run_as_written", "1 if that run was as its item says, 0 if it had deviations.", labels=_LABELS
        )
        metric = GaugeMetricFamily(
            "llmval_run_metric", "A metric of that run's verdict; its unit is in its name.", labels=[*_LABELS, "metric"]
        )
        info = InfoMetricFamily("llmval_run", "That run.", labels=_LABELS)
        newest: dict[tuple[str, ...], RunFacts] = {}  # a textfile with a series twice is refused as a whole
        for run in sorted(self._facts.runs, key=lambda run: run.intent.order):
            ref = run.intent.step
            newest[clean(run.intent.host.get("name") or ""), clean(ref.checklist), clean(ref.number)] = run
        for labels, run in newest.items():
            found = run.verdict.outcome.value if run.verdict is not None else NOT_JUDGED
            for word in (*map(str, Outcome), NOT_JUDGED):
                outcome.add_metric([*labels, word], float(word == found))
            as_written.add_metric(list(labels), float(not run.intent.deviations and run.intent.preset is None))
            info.add_metric(list(labels), {"run_id": clean(run.id), "preset": clean(run.intent.preset or "")})
            if (seconds := seconds_between(run.status.started_utc, run.status.ended_utc)) is not None:
                length.add_metric(list(labels), seconds)
            if run.verdict is None:
                continue
            if (moment := parse_utc(run.verdict.judged_utc)) is not None:
                judged.add_metric(list(labels), moment.timestamp())
            for name, value in run.verdict.metrics.items():
                if value is not None:  # an unknown value has no sample
                    metric.add_metric([*labels, clean(name)], value)
        yield from (outcome, judged, length, as_written, metric, info)


def prometheus(facts: ReportFacts) -> str:
    """The file: put it where the node exporter's `--collector.textfile.directory` looks, with the suffix `.prom`."""
    registry = CollectorRegistry()
    registry.register(_Verdicts(facts))
    return f"{MARKER} of {clean(facts.made_utc)}\n" + generate_latest(registry).decode()
