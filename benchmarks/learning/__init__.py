"""How well learning does, measured beside peers."""
