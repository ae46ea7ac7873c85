"""What the library's claims rest on: scripts, config in, JSON and a plot out."""
