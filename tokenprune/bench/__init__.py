"""`tokenprune bench`: what strategies cost and save on a device.

Beside them stand the full model, the dense limit and chance.
"""
