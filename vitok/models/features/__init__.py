"""Feature networks of metrics: Inception, DINOv2, EfficientNet-Lite0, I3D."""
