"""`headrace doctor`: checks of a deployment. Nothing is started and nothing is changed."""
