"""On which machine the model of a load test ran: the one of the run's record, or one that nothing is known of."""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from llmval_tui.runs.records import Intent


def server_url(identity: Mapping[str, Any]) -> str | None:
    """Where the server of another program answered, by the result's identity; None if our own engine ran."""
    server = identity.get("server")
    return str(server.get("url") or "an unknown address") if isinstance(server, dict) else None


def ran_here(identity: Mapping[str, Any], intent: Intent) -> bool:
    """Whether the model ran on the machine whose facts the run has recorded, and not elsewhere on the network.

    A server did so if the list started it, or if its address is that of this machine.
    """
    url = server_url(identity)
    if url is None or intent.servers:
        return True
    name = urlsplit(url).hostname or ""
    own = str(intent.host.get("name") or "")
    return name != "" and (_is_loopback(name) or name in (own, own.partition(".")[0]))


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
