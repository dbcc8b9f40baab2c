"""Results told as pages: which facts a report shows, and in which words."""
