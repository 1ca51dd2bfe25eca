"""What is known of a node, in one word."""

from enum import StrEnum


class NodeState(StrEnum):
    """What is known of a node, the most urgent first."""

    SLOW = "slow"  # named by two measurements
    FAILED = "failed"
    LOST = "lost"  # it left no verdict
    NO_ANSWER = "no answer"
    INVALID = "invalid"
    INCONCLUSIVE = "inconclusive"
    JUDGING = "judging"
    RUNNING = "running"
    QUEUED = "queued"
    NOT_STARTED = "not started"  # the run was refused before its start
    PASSED = "passed"
    ANSWERS = "answers"  # no run: its exporter answers


URGENCY = tuple(NodeState)
NEEDS_A_PERSON = frozenset(URGENCY[: URGENCY.index(NodeState.JUDGING)])
