"""What an adapter of PEFT is, and what it has of a patch embedding."""
