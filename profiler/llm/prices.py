"""What OpenAI charges for its models, as far as it is known."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens sent and received.

    >>> Price(2.5, 10.0).cost(1_000_000, 100_000)
    3.5
    """

    prompt: float
    completion: float

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Dollars for so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


# Standard rates of api.openai.com, without discounts for batches or cached prompts, so an upper
# bound. A model that is not listed has no known price; nothing is guessed from a similar name.
# Compared, entry by entry, with model_prices_and_context_window_backup.json of LiteLLM 1.109.1
# (November 2026), which cites OpenAI's own price page.
_OPENAI = {
    "gpt-3.5-turbo": Price(0.50, 1.50),
    "gpt-3.5-turbo-0125": Price(0.50, 1.50),
    "gpt-4-turbo": Price(10.0, 30.0),
    "gpt-4": Price(30.0, 60.0),
    "gpt-4o": Price(2.50, 10.0),
    "gpt-4o-2024-05-13": Price(5.0, 15.0),  # the first snapshot costs more than its successors
    "gpt-4o-mini": Price(0.15, 0.60),
    "gpt-4.1": Price(2.0, 8.0),
    "gpt-4.1-mini": Price(0.40, 1.60),
    "gpt-4.1-nano": Price(0.10, 0.40),
    "gpt-5": Price(1.25, 10.0),
    "gpt-5-mini": Price(0.25, 2.0),
    "gpt-5-nano": Price(0.05, 0.40),
    "gpt-5.1": Price(1.25, 10.0),
    "gpt-5.2": Price(1.75, 14.0),
    "gpt-5.4": Price(2.50, 15.0),
    "gpt-5.4-mini": Price(0.75, 4.50),
    "gpt-5.4-nano": Price(0.20, 1.25),
    "gpt-5.5": Price(5.0, 30.0),
    "o3": Price(2.0, 8.0),
    "o3-mini": Price(1.10, 4.40),
    "o4-mini": Price(1.10, 4.40),
}


def openai_price(model: str) -> Price | None:
    """Look up a model of OpenAI's, dated snapshots included; None where the price is not known.

    >>> openai_price("gpt-4o-2024-08-06")
    Price(prompt=2.5, completion=10.0)
    >>> openai_price("gpt-4o-2024-05-13")
    Price(prompt=5.0, completion=15.0)
    >>> openai_price("gpt-4o-audio-preview") is None
    True
    """
    return _OPENAI.get(model) or _OPENAI.get(re.sub(r"-\d{4}-\d{2}-\d{2}$", "", model))
