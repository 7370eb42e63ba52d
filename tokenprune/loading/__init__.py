"""Names and files to models and tensors."""
