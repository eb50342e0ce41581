"""Kubernetes manifests: the fields that are in use here, and no others, so that a typo fails."""
