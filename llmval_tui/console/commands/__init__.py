"""What each command is called, takes and shows; nothing here imports what a command does."""
