"""Serve tiny checkpoints with a real engine, and compare its answers."""
