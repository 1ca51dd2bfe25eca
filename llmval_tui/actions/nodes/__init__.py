"""What a run on several nodes does on one node, and the verdict over all of them."""
