"""Decoding: encoded images and videos to uint8 pixels."""
