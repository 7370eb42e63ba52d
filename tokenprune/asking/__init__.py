"""From Python, for notebooks: a model by its name, and questions about one video."""
