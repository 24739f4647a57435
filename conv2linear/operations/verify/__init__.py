"""Check a linear checkpoint from every side that is asked."""
