"""Results told as pages: which facts a report shows, and in which words."""

from profiler.pages.of_comparison import compare_page
from profiler.pages.of_diagnosis import debug_page
from profiler.pages.of_run import profile_page, typeset

__all__ = ["compare_page", "debug_page", "profile_page", "typeset"]
