"""A measured window on its way from the leader of a replica to rank 0, which makes the record of all."""

import json
import zlib
from typing import Any

from llmval_runners.engine.request import Request
from llmval_runners.load_test.generator import Arrival
from llmval_runners.load_test.journal import line_of, line_of_tokens, requests_in
from llmval_runners.load_test.result import Measured


def packed(measured: Measured) -> bytes:
    """The window without its schedule, which rank 0 draws again from the seed."""
    sent = [request for request in measured.sent if isinstance(request, Request)]
    value = {
        "lines": [line_of(request) for request in sent] + [line_of_tokens(r) for r in sent if r.token_times],
        "errors": {request.index: request.error for request in sent if request.error},
        "duration_s": measured.duration_s,
        "ended_early": measured.ended_early,
        "extras": measured.extras,
        "replica": dict(measured.replica),
    }
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 1)


def unpacked(data: bytes, arrivals: list[Arrival]) -> Measured:
    """The window of another replica; `arrivals`: its schedule."""
    value: dict[str, Any] = json.loads(zlib.decompress(data))
    sent = requests_in(value["lines"])
    for request in sent:
        request.error = value["errors"].get(str(request.index), "")
    return Measured(sent, arrivals, value["duration_s"], value["ended_early"], value["extras"], value["replica"])
