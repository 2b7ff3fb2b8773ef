"""The recipes that are installed with daps-kit."""
