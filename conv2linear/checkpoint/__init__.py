"""What a checkpoint is: its headers, its config and its patch embeddings."""
