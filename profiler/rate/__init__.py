"""What people say about labels: the page they rate on, and the threshold that follows."""
