"""All that makes a folder appear complete or not at all."""
