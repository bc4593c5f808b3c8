"""What a batch is, whom it finds, and what it makes of each contact. Pure: time and ids come in."""
