"""The configuration: options, overrides, values and their checks, composition, creation of objects, cards."""
