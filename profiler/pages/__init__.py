"""Results told as pages: which facts a report shows, and in which words."""

from profiler.pages.of_comparison import compare_page
from profiler.pages.of_run import profile_page, typeset

__all__ = ["compare_page", "profile_page", "typeset"]
