"""What steers the loop: policies, claims of triggers, promotion and rollback, what serves."""
