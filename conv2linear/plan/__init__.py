"""What will happen to each file, decided without any effect."""
