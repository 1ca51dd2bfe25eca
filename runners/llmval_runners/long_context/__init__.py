"""Long-context validation: what a context length costs in memory and time, predicted first, then measured."""
