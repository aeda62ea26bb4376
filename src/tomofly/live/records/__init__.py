"""The process variables of the live session: what they are (tables), their values, how they are served."""
