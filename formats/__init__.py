"""What the files of a network hold, and how they are read and written."""
