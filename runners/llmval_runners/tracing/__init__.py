"""Captures a GPU trace of the engine under load; run by `capture_fp8_flexattention_traces.sh`."""
