"""Long-context validation: memory, time and accuracy of a context length, predicted first, then measured."""
