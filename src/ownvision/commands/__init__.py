"""Commands that work on a data folder, the service running or not; `cli` adds them. A module per noun."""
