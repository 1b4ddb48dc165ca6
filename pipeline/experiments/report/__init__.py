"""A page on a run, or on several of other seeds: what is known of them, its figures, and the words beside."""
