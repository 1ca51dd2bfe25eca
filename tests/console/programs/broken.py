"""Fails."""

raise SystemExit("boom")
