"""`tokenprune bench`: what strategies cost and save on a device, against the full model, the dense
limit and chance.
"""
