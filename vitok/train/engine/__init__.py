"""DeepSpeed, and how its ZeRO stages cut a model over ranks."""
