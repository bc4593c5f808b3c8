"""The only place here that knows MongoDB."""
