"""The pretrained networks of metrics and losses: which there are, where their weights come from."""
