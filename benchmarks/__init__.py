"""Measurements of the whole service on real parts. Each prints a table and writes JSON below `var/bench`."""
