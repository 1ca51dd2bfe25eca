"""Runs that leave their workspace: one archive with a manifest of hashes, and the way back from an archive to its runs."""
