"""All commands, in the order of `llmval --help`."""

from llmval_tui.console.commands.items import ITEMS
from llmval_tui.console.commands.node import NODE
from llmval_tui.console.commands.plans import PLANS
from llmval_tui.console.commands.records import RECORDS

_ORDER = (
    "open", "run", "review", "status", "fleet", "attach", "cancel", "tick", "accept", "verify", "doctor", "new", "demo",
    "report", "compare", "runs", "history", "export", "watch", "locate", "completion", "help",
)  # fmt: skip
_BY_NAME = {command.name: command for command in (*PLANS, *ITEMS, *RECORDS, *NODE)}
COMMANDS = {name: _BY_NAME[name] for name in _ORDER}
