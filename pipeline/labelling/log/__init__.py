"""The database of votes: events, people, batches, the queue."""
