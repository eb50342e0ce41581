"""What a terminal shows: progress, a live panel, tables."""
