"""Makes the partial record of a load test after its rank 0 was killed, from the journal, when all ranks have ended.

    PYTHONPATH=…/runners python -m llmval_runners.load_test.recovery x.partial.jsonl x.json [WHY]

launch.py runs it automatically. After plain torchrun, run it by hand with the journal beside the result.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmval_runners.load_test.generator import Arrival, Lengths, arrival_times, schedule
from llmval_runners.load_test.journal import journal_path, read_dead_journal, remove_dead_journal
from llmval_runners.load_test.load_flags import burstiness_in
from llmval_runners.load_test.metrics import Slo
from llmval_runners.load_test.result import PROFILED, Measured, load_test_result, mark_invalid
from llmval_runners.process.errors import USAGE_EXIT, Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import write_json
from llmval_runners.process.output import partial_path
from llmval_runners.process.shutdown import name_as_saving


def recovery_command(result: Path) -> list[str]:
    """The command line for launch.py, which appends the reason for the failure."""
    runners = Path(__file__).resolve().parents[2]
    code = f"import sys; sys.path.insert(0, {str(runners)!r}); from llmval_runners.load_test import recovery; "
    return [
        sys.executable,
        "-c",
        f"{code}sys.exit(recovery.main(sys.argv[1:]))",
        str(journal_path(result)),
        str(result),
    ]


def recover(journal: Path, result: Path, why: str) -> int | None:
    """Write the partial record beside `result` and remove the journal.

    Returns the number of requests in it, or None if there is nothing to recover: the writer lives or began no window.

    Raises:
        OSError, ValueError, KeyError: the journal cannot be read, or the record cannot be written.
    """
    found = read_dead_journal(journal)
    if found is None:
        return None
    header, sent = found
    if (only := header.get("only")) is not None:
        why = f"{why}; only {only} is in this record"
    for request in sent:
        if not request.done:
            request.error = why
    ends = [max([request.dispatch_s, *request.token_times[-1:]]) for request in sent]
    measured = Measured(sent, _arrivals(header["workload"]), max(ends, default=0.0), why)
    record = load_test_result(
        [measured], header["identity"], header["workload"], header["kv_cache"], Slo(**header["slo"]), header["search"]
    )
    if header["profiled"]:
        mark_invalid(record, PROFILED)
    write_json(partial_path(result), record)
    remove_dead_journal(journal)
    return len(sent)


def _arrivals(workload: dict[str, Any]) -> list[Arrival]:
    """Draw the schedule again from its seed."""
    burstiness = burstiness_in(workload)
    times = arrival_times(workload["target_qps"], workload["duration_s"], burstiness, workload["seed"])
    prompt, output = Lengths.parse(workload["prompt_len"]), Lengths.parse(workload["output_len"])
    return schedule(times, prompt, output, workload["seed"])


def main(argv: Sequence[str]) -> int:
    """Recover the record and report it as an event. Returns 0, 1 if the record is lost, or 2 for wrong arguments."""
    if len(argv) not in (2, 3):
        print("usage: python -m llmval_runners.load_test.recovery JOURNAL RESULT [WHY]", file=sys.stderr)
        return USAGE_EXIT
    journal, result = map(Path, argv[:2])
    why = argv[2] if len(argv) == 3 else "rank 0 was killed"
    events = EventLog(0)
    try:
        with name_as_saving():
            count = recover(journal, result, why)
    except (OSError, ValueError, KeyError, TypeError, Refused) as error:
        what = f"{type(error).__name__}: {error}"
        events.error("record_lost", f"no record can be made from {journal} ({what})")
        return 1
    if count is None:
        print(f"{journal} has nothing to recover: its writer lives, or no window had begun.", file=sys.stderr)
    else:
        events.error("rank_0_lost", f"{partial_path(result)} has the {count} requests that were noted ({why})")
    events.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
