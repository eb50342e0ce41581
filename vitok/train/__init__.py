"""Training that any process can run: alone, or as one of a worker group."""
