"""The processes (ranks) of one stage: what they tell each other, and how one notices that another is gone."""

from pipeline.modeling.ranks.contact import in_contact
from pipeline.modeling.ranks.exchange import together

__all__ = ["in_contact", "together"]
