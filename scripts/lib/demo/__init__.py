"""Take a small checkpoint through every command, as the README shows it."""
