"""What rows mean: preferences, votes, likes, demonstrations, whoever wrote them."""
