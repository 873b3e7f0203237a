"""Drivers beside a scan host: field devices into the process image and back, never holding up a scan."""
