"""What an operator answers for: money, and what is stored of a person."""
