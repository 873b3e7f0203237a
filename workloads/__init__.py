"""What runs at a site; one folder is one container image."""
