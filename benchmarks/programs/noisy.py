"""Logs numbered lines at a steady rate: `python noisy.py SECONDS LINES_PER_SECOND`."""

import sys
import time

seconds, rate = float(sys.argv[1]), float(sys.argv[2])
lines, start = 0, time.monotonic()
while time.monotonic() - start < seconds:
    due = int((time.monotonic() - start) * rate)
    sys.stdout.write("".join(f"line {n} of a run that logs a lot\n" for n in range(lines, due)))
    sys.stdout.flush()
    lines = max(lines, due)
    time.sleep(0.02)
print(lines, "lines in all")
