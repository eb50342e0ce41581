"""Loading: the order of samples, decode tasks, and the stream of uint8 batches into training."""
