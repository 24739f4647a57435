"""All that makes a folder appear whole or not at all."""
