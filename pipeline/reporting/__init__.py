"""The report: page, tables, pictures. Only stages import it."""
