"""Plant small faults in the code, and see which of them the tests catch."""
