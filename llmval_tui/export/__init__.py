"""Runs that leave their workspace: an archive with a manifest of hashes, and the way from an archive to its runs."""
