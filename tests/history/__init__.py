"""Three servers on one Postgres under faults, and a checker of what their watchers were told."""
