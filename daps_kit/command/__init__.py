"""The command line, one file a command; nothing is imported that a command does not need."""
