"""Shared by all packages: errors, atomic files, locks, JSON decoding, clean text, process identity."""
