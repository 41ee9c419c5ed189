"""A self-hosted engine that synchronises business data and tells everyone, live, where each sync stands."""

__version__ = "0.1.0"
