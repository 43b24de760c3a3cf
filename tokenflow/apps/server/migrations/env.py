"""What Alembic runs: the versions that are due, on the connection that `upgrade` was given."""

from alembic import context

from tokenflow.apps.server.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
