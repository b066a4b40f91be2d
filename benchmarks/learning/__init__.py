"""Quality and speed of learning, beside what a person would pick instead."""
