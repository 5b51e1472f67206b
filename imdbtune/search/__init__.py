"""The search: its driver, samplers, journal, resume and crash recovery."""
