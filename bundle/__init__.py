"""`make bundle`: one file with llmval and everything that it needs but torch."""
