"""A process as vLLM starts its workers: `python renamed_worker.py PIDFILE`.

It is in a session of its own, its parent has ended, and setproctitle has overwritten its environment.
"""

import os
import sys
import time
from pathlib import Path

import setproctitle

if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    setproctitle.setproctitle("VLLM::EngineCore")
    assert b"LLMVAL_RUN_ID=" not in Path("/proc/self/environ").read_bytes()
    pid_file = Path(sys.argv[1])
    pid_file.with_suffix(".new").write_text(str(os.getpid()))
    pid_file.with_suffix(".new").rename(pid_file)
    time.sleep(600)
