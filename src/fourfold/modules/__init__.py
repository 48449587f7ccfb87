"""Model parts, one a file, found by :data:`fourfold.modules.registry`."""
