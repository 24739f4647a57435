"""Measure `convert` against other ways to the same result."""
