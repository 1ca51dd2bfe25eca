"""Actions: what a step does, inferred from its words; gates, verdicts, and settling (judge, tick, record)."""
