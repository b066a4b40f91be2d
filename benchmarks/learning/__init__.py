"""Learning: quality and speed beside what a competent person would write in an afternoon."""
