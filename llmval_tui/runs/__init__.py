"""Runs: the run folder, the supervisor process of a run, the client that starts and cancels it, and its evidence."""
