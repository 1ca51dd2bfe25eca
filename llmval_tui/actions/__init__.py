"""The action of each step, inferred from its words; gates and verdicts; settling a run (judge, tick, record)."""
