"""Capture of a GPU trace of the engine under load: what `capture_fp8_flexattention_traces.sh` runs."""
