"""Keeping the database in order: partitions ahead, roll-ups after late data, what changed, retention.

It meets ingest and questions in the database only: ingest lists in `late_ranges` what it touched, and `kept_readings`
tells both what is gone.
"""
