"""The page on which people try a policy: its app, routes and texts."""
