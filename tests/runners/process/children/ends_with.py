"""A rank that says words and ends: `ends_with.py RANK=CODE,… SAYING,…`; a negative code is a signal. Others end with 0.

The ranks that are named wait for nobody; the others wait until the launcher ends them.
"""

import os
import signal
import sys
import time

codes = {int(rank): int(code) for rank, code in (one.split("=") for one in sys.argv[1].split(",") if one)}
rank = int(os.environ["RANK"])
if str(rank) in sys.argv[2].split(","):
    print(f"words of rank {rank}", file=sys.stderr, flush=True)
code = codes.get(rank)
if code is None and codes:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    time.sleep(600)
if code is not None and code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code or 0)
