"""Payload bytes become readings: one file per convention. Nothing here knows where bytes come from or readings go."""
