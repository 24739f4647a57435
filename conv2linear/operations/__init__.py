"""What a caller can ask for, in the words of the command line."""
