"""What every story may use, and what knows none of them. No torch."""
