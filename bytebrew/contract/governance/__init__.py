"""What an operator answers for: money, limits, and what is stored of a person."""
