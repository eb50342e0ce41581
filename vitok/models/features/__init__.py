"""Networks that metrics look through: Inception, DINOv2, EfficientNet-Lite0, I3D."""
