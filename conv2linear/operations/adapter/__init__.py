"""What each command does with an adapter of PEFT instead of a whole checkpoint."""
