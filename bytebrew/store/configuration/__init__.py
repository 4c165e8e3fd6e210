"""The operator's configuration in the database: agents, capabilities, models, schemas, settings."""
