"""Benchmarks of the dashboard and the command line (`make bench`). They measure and print; they are not tests."""
