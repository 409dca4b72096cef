"""The sections of a config: their keys, types, defaults and what each is for, known without torch."""
