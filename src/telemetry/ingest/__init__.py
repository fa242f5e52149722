"""From the broker to the committed row: batch, validate, commit, acknowledge.

    subscriber ─▶ intake ─▶ preparation ─▶ writer ─▶ acknowledgement
                 (batches)   (readings)   (one transaction)

Nothing is acknowledged before the transaction that settled it has committed, and nothing here works message by message
but the one loop of `preparation`.
"""
