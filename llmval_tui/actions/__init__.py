"""What a step does: actions inferred from its words, their gates, and settling: judge, tick, record."""
