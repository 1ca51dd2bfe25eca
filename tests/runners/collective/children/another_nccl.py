"""collective_bandwidth.py in which rank 1 has loaded another NCCL."""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[4] / "runners"))

from llmval_runners.collective import facts
from llmval_runners.collective.main import main

real = facts.rank_facts


def rank_facts(*arguments: Any, **named: Any) -> dict[str, Any]:
    found = real(*arguments, **named)
    found["versions"]["nccl"] = "2.1" if os.environ["RANK"] == "1" else "2.2"
    return found


facts.rank_facts = rank_facts
main(sys.argv[1:])
