"""Disturb convert and restore in every way that a machine has, and judge what is left behind."""
