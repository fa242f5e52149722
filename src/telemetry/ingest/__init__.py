"""From the broker to the committed row: batch, validate, commit, acknowledge.

    subscriber ─▶ intake ─▶ preparation ─▶ writer ─▶ acknowledgement
                 (batches)   (readings)   (one transaction)

Nothing is acknowledged before the transaction that settled it has committed, or, where the settings ask for a spool and
the database is away, before it is on the disk (`detour`). Nothing here works message by message
but the one loop of `preparation`.
"""
