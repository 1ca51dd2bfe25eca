"""One run on many nodes: which nodes, how it starts there, and what all of them together show."""
