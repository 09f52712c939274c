"""The tree as one JSON object for programs: records of what stands in it, each made from its part of the model.

The schema beside it and docs/json.md are made from these records: a field's docstring is its line of the page.
"""
