"""What the project promises, measured: each beside its limit or a peer in the same run. `make bench` runs all."""
