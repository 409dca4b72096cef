"""Is the policy better than its base, and what did it cost?"""
