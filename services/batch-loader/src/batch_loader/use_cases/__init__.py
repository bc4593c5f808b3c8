"""One intention per file."""
