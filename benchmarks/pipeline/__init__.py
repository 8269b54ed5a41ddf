"""Measures the whole service beside its own work in one process, and beside what users write: `make bench-pipeline`."""
