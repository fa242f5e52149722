"""The MQTT 5 session of the ingest: a core without input or output under a thin asyncio shell."""
