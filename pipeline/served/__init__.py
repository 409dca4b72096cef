"""Completions from a server that speaks OpenAI's API: what is asked, what is answered, what survives a kill."""
