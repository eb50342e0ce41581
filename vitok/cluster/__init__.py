"""Files that describe clusters: whether they are right, and what they cost. No cloud is asked anything."""
