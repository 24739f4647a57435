"""Where the files of a checkpoint lie."""
