"""What makes a process a service. No business word appears in here."""
