"""A study -> finished runs: request, plan, preflight, sweep, single run."""
