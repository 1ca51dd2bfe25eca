"""The command line's commands, one module each; they print, the rooms below do the work."""
