"""Copy, hash, rename and sync files; knows nothing of checkpoints."""
