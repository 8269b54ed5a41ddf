"""Which cluster does an image join? The rule, and the plan of reads and writes that follows from it."""
