"""A simulated SMS carrier: somebody else's system, with a journal of its own that judges ours."""
