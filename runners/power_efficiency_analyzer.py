"""Summary of power sweeps.

`python runners/power_efficiency_analyzer.py power_results/20260102/*.json --output summary.json`.
"""

import sys

from llmval_runners.power.analysis.cli import run_analyzer

if __name__ == "__main__":
    run_analyzer(sys.argv[1:])
