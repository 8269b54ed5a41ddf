"""The record of the order, as it lies in `joined`."""
