"""What a server asks for while it runs a call: questions to a person, and answers of a model."""
