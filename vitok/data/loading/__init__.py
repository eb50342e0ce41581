"""Pixels -> batches: the order of samples, decode tasks, the stream into training."""
