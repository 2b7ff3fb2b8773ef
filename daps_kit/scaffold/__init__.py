"""What `daps-kit new` writes: a plugin that installs, with tests that pass, to start one's own from."""
