"""What a model costs: multiply-adds, FLOPs, hours, bytes."""
