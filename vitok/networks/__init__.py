"""The pretrained networks of metrics and losses, and the sources of their weights."""
