"""The report of runs as one file, and the comparison of two runs."""
