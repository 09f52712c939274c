"""A trace as a graph, in the languages of Graphviz and Mermaid."""
