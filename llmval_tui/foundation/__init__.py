"""What every room needs and no room owns: errors, atomic files, locks, clean text, process identity."""
