"""Rows of finished cells -> a report: tables, fits, verdicts, figures, one HTML page."""
