"""The demo: the whole service on the sample, from nothing to a report, and back to nothing."""
