"""What an attempt is, and what it does to a counter. Pure: no I/O, no clock."""
