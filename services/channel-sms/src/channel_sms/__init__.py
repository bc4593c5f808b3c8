"""Works SMS activities through a provider and an automated agent."""
