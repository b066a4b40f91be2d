"""What the learning reaches, beside what it must and beside its peers."""
