"""A trace as one HTML file: what is in it, and how it is put together. Its program is built from front-end/."""
