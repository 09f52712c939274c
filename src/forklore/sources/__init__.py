"""Where events come from. Each source gives a header and its events, and knows nothing of views."""
