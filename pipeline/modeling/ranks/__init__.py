"""The processes (ranks) of one stage: what they tell each other, and how one notices that another is gone."""

from pipeline.modeling.ranks.contact import watched
from pipeline.modeling.ranks.exchange import together

__all__ = ["together", "watched"]
