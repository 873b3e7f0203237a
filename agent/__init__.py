"""The site: makes reality match the signed desired state, with or without the centre."""
