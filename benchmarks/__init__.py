"""Benchmarks: one command for each question, ratios within one run. `python -m benchmarks --help`."""
