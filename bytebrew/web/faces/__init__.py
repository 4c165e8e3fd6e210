"""Conversations for faces, which speak other protocols."""
