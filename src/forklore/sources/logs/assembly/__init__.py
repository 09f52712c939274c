"""From lines to events, whichever tool wrote them: calls put together, tasks told apart, creators found."""
