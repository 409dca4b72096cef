"""The annotator's page and the operator's page."""
