"""The commands of the command line. They parse options and print; other packages do the work."""
