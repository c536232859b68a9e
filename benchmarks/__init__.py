"""Every figure that the README states, as a command: `make bench`."""
