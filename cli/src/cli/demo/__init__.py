"""`parley demo`: ten thousand contacts through the whole line, reconciled to the last one."""
