"""Encoded images and videos -> pixels."""
