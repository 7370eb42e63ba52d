"""The loop over samples; the only room that imports Lightning."""
