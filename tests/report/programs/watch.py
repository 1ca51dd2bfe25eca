"""`llmval watch` in a process of its own: `python watch.py WORKSPACE`."""

import argparse
import signal
import sys

from llmval_tui.console.watch import watch

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test suite in the background ignores SIGINT
sys.exit(watch(argparse.Namespace(workspace=sys.argv[1], every=0.1, runs=[], json=False)))
