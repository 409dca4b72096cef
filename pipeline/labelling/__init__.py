"""Human labelling: items, the event log, the pages and the terminal, and rows from votes. Imports no torch."""
