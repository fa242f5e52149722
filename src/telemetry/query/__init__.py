"""Questions about the past: a time-window question becomes an exact plan, the plan becomes SQL.

Only SQL and the calendar are known here. Every function takes a connection and reads within the caller's snapshot, so
that an answer is one state of the database.
"""
