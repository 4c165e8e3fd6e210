"""OpenAI's protocols as faces: Chat Completions in `chat`, Responses in `responses`, each a plugin."""
