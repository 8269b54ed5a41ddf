"""The term index against its goals and against what a user would pick instead: `make bench-search`."""
