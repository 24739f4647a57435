"""Feed what reads a checkpoint with what no checkpoint holds."""
