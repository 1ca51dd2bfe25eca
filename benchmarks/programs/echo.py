"""Echoes each key in brackets on a raw terminal: the latency of the machine and the harness alone."""

import os
import tty

tty.setraw(0)
while key := os.read(0, 1):
    os.write(1, b"\r[%s]" % key)
