"""Where things are kept: the one room that knows a folder from s3://."""
