"""The labelling database: events, people, batches, the queue."""
