"""Scripts that measure the library's claims: config in, JSON and a plot out."""
