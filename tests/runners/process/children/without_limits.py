"""The load test with limits that no machine exceeds: what a test learns from it does not depend on the machine's speed.

The limits themselves are tested in virtual time (tests/runners/load_test).
"""

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4] / "runners"))

from llmval_runners.load_test import metrics
from llmval_runners.load_test.main import main

metrics.MAX_DELAY_P99_MS = metrics.MAX_TTFT_SLOPE = math.inf
metrics.MIN_ACHIEVED = 0.0

from llmval_runners.load_test import search_report  # noqa: E402  (its limit is half of the one above)

vars(search_report)["MAX_SLOPE"] = 0.05  # a record has no infinite number
main(sys.argv[1:])
