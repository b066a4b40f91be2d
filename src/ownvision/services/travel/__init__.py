"""Projects that travel: a token, the archive behind its address, and a copy made of it here or elsewhere."""
