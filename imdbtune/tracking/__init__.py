"""MLflow: connection, writing, reading and the outbox."""
