"""Our engine under the load that a server had: the command, and where the difference comes from."""
