"""Runs: their folder, the supervisor that owns one, the client that starts, follows and cancels it, and its hashes."""
