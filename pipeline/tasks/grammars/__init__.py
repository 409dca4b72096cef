"""The grammars that write the texts of the tasks that come with the package."""
