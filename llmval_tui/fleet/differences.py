"""What differs between nodes that should be equal: for each key, the nodes that are not with the majority."""

from collections import Counter
from collections.abc import Mapping

from llmval_tui.fleet.configuration import ENVIRONMENT, Value, order
from llmval_tui.fleet.record import Difference

NOT_SET = "(not set)"


def differences(configurations: Mapping[str, Mapping[str, Value]]) -> list[Difference]:
    """The keys in which nodes differ. What a node lacks (GPUs, links) comes first.

    The majority is the value of more than half of the nodes; if there is none, it is None and all nodes are listed.

    Args:
        configurations: node → configuration. Nodes with an empty one did not report and are left out.
    """
    nodes = {node: found for node, found in sorted(configurations.items()) if found}
    keys = {key for found in nodes.values() for key in found}
    result = []
    for key in sorted(keys, key=order):
        values = {node: _value(found, key) for node, found in nodes.items()}
        counts = Counter(values.values())
        if len(counts) < 2:
            continue
        value, count = max(counts.items(), key=lambda item: (item[1], str(item[0])))
        majority = value if 2 * count > len(values) else None
        clear = 2 * count > len(values)
        different = {node: mine for node, mine in values.items() if not clear or mine != majority}
        result.append(Difference(key, majority, different))
    return result


def _value(found: Mapping[str, Value], key: str) -> Value:
    if key not in found and key.startswith(ENVIRONMENT):
        return NOT_SET
    return found.get(key)


def fewer_gpus(found: list[Difference]) -> dict[str, str]:
    """Node → sentence for each node that has fewer GPUs than most: such a node is named before any other."""
    for one in found:
        if one.key != "gpu_count" or not isinstance(one.majority, int):
            continue
        return {
            node: f"{count} of {one.majority} GPUs answer"
            for node, count in one.nodes.items()
            if isinstance(count, int) and count < one.majority
        }
    return {}


def of_node(found: list[Difference], node: str) -> list[str]:
    """What is different on one node, one text a key: `driver 570.1, most have 580.2`."""
    return [
        f"{one.key} {text(one.nodes[node])}" + (f", most have {text(one.majority)}" if one.majority is not None else "")
        for one in found
        if node in one.nodes
    ]


def text(value: Value) -> str:
    """A value for people."""
    return "n/a" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
