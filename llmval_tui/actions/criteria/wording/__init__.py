"""The words of an item: what they demand of its run."""
