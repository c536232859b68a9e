"""The same five data sets in Headrace and in other libraries: docs/other-libraries.md."""
