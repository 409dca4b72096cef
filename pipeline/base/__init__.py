"""What everything stands on: errors, files, processes, records, text for terminals. Needs the standard library
only."""
