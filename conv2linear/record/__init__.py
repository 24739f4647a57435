"""What a converted checkpoint says of its own conversion."""
