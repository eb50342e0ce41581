"""What keeps a long run alive: watchdog, preemption notices, bad steps, timers."""
