"""Words sorted into categories: by a language model, or by examples of each category."""
